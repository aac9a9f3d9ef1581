"""Gradient transforms: they take numbers and give a Transform."""

from jopt.transforms.clip import clip_by_block_rms as clip_by_block_rms
from jopt.transforms.clip import clip_by_global_norm as clip_by_global_norm
from jopt.transforms.clip import clip_by_norm as clip_by_norm
from jopt.transforms.clip import clip_by_value as clip_by_value
from jopt.transforms.clip import normalize_by_update_norm as normalize_by_update_norm
from jopt.transforms.grokfast import grokfast as grokfast
from jopt.transforms.grokfast import grokfast_ma as grokfast_ma
from jopt.transforms.hessian_diagonal import hessian_diagonal as hessian_diagonal
from jopt.transforms.limits import keep_params_nonnegative as keep_params_nonnegative
from jopt.transforms.limits import zero_nans as zero_nans
from jopt.transforms.line_search import (
    scale_by_backtracking_linesearch as scale_by_backtracking_linesearch,
)
from jopt.transforms.line_search import scale_by_zoom_linesearch as scale_by_zoom_linesearch
from jopt.transforms.momentum import average_updates as average_updates
from jopt.transforms.momentum import trace as trace
from jopt.transforms.noise import add_noise as add_noise
from jopt.transforms.private import differentially_private as differentially_private
from jopt.transforms.stateless import identity as identity
from jopt.transforms.stateless import set_to_zero as set_to_zero
from jopt.transforms.stateless import stateless as stateless
from jopt.transforms.steps import add_decayed_weights as add_decayed_weights
from jopt.transforms.steps import scale as scale
from jopt.transforms.steps import scale_by_learning_rate as scale_by_learning_rate
from jopt.transforms.units import adaptive_grad_clip as adaptive_grad_clip
from jopt.transforms.units import centralize as centralize
from jopt.transforms.units import clip_by_unit_norm as clip_by_unit_norm
