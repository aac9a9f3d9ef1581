"""Optimizers, one algorithm a file, the file named as the function."""

from jopt.optimizers.adam import adam as adam
from jopt.optimizers.adamw import adamw as adamw
from jopt.optimizers.muon import muon as muon
from jopt.optimizers.sgd import sgd as sgd
from jopt.optimizers.sparse_adam import sparse_adam as sparse_adam
