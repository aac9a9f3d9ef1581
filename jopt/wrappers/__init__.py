"""Wrappers: they take a Transform and give a Transform."""

from jopt.wrappers.averages import ema as ema
from jopt.wrappers.averages import eval_params as eval_params
from jopt.wrappers.averages import swa as swa
