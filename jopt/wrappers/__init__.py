"""Wrappers: they take a Transform and give a Transform."""

from jopt.wrappers.accumulate import accumulate as accumulate
from jopt.wrappers.averages import ema as ema
from jopt.wrappers.averages import eval_params as eval_params
from jopt.wrappers.averages import swa as swa
from jopt.wrappers.master_weights import master_weights as master_weights
from jopt.wrappers.skip_nonfinite import skip_nonfinite as skip_nonfinite
