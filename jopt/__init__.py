"""jopt: gradient transformations for JAX, with torch's numbers and state that is plain data.

>>> import jax.numpy as jnp, jopt
>>> tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(1e-3))
>>> params = {"w": jnp.ones(3)}
>>> state = tx.init(params)
>>> updates, state = tx.update({"w": jnp.ones(3)}, state, params)
>>> params = jopt.apply_updates(params, updates)
"""

import typing as _typing

from jopt import plot as plot
from jopt import schedules as schedules
from jopt import sharding as sharding
from jopt.base import CheckpointError as CheckpointError
from jopt.base import ConfigError as ConfigError
from jopt.base import DamagedError as DamagedError
from jopt.base import GroupError as GroupError
from jopt.base import JoptError as JoptError
from jopt.base import StateError as StateError
from jopt.base import TreeError as TreeError
from jopt.base import configured as configured
from jopt.core import Common as Common
from jopt.core import Coupled as Coupled
from jopt.core import Decaying as Decaying
from jopt.core import Decoupled as Decoupled
from jopt.core import Extension as Extension
from jopt.core import Group as Group
from jopt.core import Hyper as Hyper
from jopt.core import Slot as Slot
from jopt.core import Spec as Spec
from jopt.core import Steps as Steps
from jopt.core import Times as Times
from jopt.core import Transform as Transform
from jopt.core import all_finite as all_finite
from jopt.core import apply_updates as apply_updates
from jopt.core import chain as chain
from jopt.core import convert_state as convert_state
from jopt.core import direction as direction
from jopt.core import extend as extend
from jopt.core import global_norm as global_norm
from jopt.core import group as group
from jopt.core import hyperparams as hyperparams
from jopt.core import leaf_norms as leaf_norms
from jopt.core import leafwise as leafwise
from jopt.core import matrixwise as matrixwise
from jopt.core import metrics as metrics
from jopt.core import optimizer as optimizer
from jopt.core import route as route
from jopt.core import routing as routing
from jopt.core import row_gradient as row_gradient
from jopt.core import rowwise as rowwise
from jopt.core import safe_increment as safe_increment
from jopt.core import set_hyperparams as set_hyperparams
from jopt.core import step as step
from jopt.core import times as times
from jopt.core import treewise as treewise
from jopt.find_learning_rate import RateSearch as RateSearch
from jopt.find_learning_rate import find_learning_rate as find_learning_rate
from jopt.minimize import Minimum as Minimum
from jopt.minimize import minimize as minimize

__version__ = "0.1.0"

if _typing.TYPE_CHECKING:
    from jopt import recipes as recipes
    from jopt.checkpoint import Checkpoints as Checkpoints
    from jopt.checkpoint import from_bytes as from_bytes
    from jopt.checkpoint import load as load
    from jopt.checkpoint import load_state_dict as load_state_dict
    from jopt.checkpoint import save as save
    from jopt.checkpoint import state_dict as state_dict
    from jopt.checkpoint import to_bytes as to_bytes
    from jopt.optimizers import *  # noqa: F403 - the list of them is there
    from jopt.tables import Summary as Summary
    from jopt.tables import summary as summary
    from jopt.transforms import adaptive_grad_clip as adaptive_grad_clip
    from jopt.transforms import add_decayed_weights as add_decayed_weights
    from jopt.transforms import add_noise as add_noise
    from jopt.transforms import average_updates as average_updates
    from jopt.transforms import centralize as centralize
    from jopt.transforms import clip_by_block_rms as clip_by_block_rms
    from jopt.transforms import clip_by_global_norm as clip_by_global_norm
    from jopt.transforms import clip_by_norm as clip_by_norm
    from jopt.transforms import clip_by_unit_norm as clip_by_unit_norm
    from jopt.transforms import clip_by_value as clip_by_value
    from jopt.transforms import differentially_private as differentially_private
    from jopt.transforms import grokfast as grokfast
    from jopt.transforms import grokfast_ma as grokfast_ma
    from jopt.transforms import hessian_diagonal as hessian_diagonal
    from jopt.transforms import identity as identity
    from jopt.transforms import keep_params_nonnegative as keep_params_nonnegative
    from jopt.transforms import normalize_by_update_norm as normalize_by_update_norm
    from jopt.transforms import scale as scale
    from jopt.transforms import scale_by_backtracking_linesearch as scale_by_backtracking_linesearch
    from jopt.transforms import scale_by_learning_rate as scale_by_learning_rate
    from jopt.transforms import scale_by_zoom_linesearch as scale_by_zoom_linesearch
    from jopt.transforms import set_to_zero as set_to_zero
    from jopt.transforms import stateless as stateless
    from jopt.transforms import trace as trace
    from jopt.transforms import zero_nans as zero_nans
    from jopt.wrappers import accumulate as accumulate
    from jopt.wrappers import asam as asam
    from jopt.wrappers import cautious as cautious
    from jopt.wrappers import cautious_decay as cautious_decay
    from jopt.wrappers import conditionally as conditionally
    from jopt.wrappers import ema as ema
    from jopt.wrappers import eval_params as eval_params
    from jopt.wrappers import galore as galore
    from jopt.wrappers import grams as grams
    from jopt.wrappers import hyperball as hyperball
    from jopt.wrappers import lookahead as lookahead
    from jopt.wrappers import loss_scale as loss_scale
    from jopt.wrappers import loss_scale_of as loss_scale_of
    from jopt.wrappers import mars as mars
    from jopt.wrappers import master_weights as master_weights
    from jopt.wrappers import mechanize as mechanize
    from jopt.wrappers import monitor as monitor
    from jopt.wrappers import sam as sam
    from jopt.wrappers import schedule_free as schedule_free
    from jopt.wrappers import skip_large_updates as skip_large_updates
    from jopt.wrappers import skip_nonfinite as skip_nonfinite
    from jopt.wrappers import skip_spikes as skip_spikes
    from jopt.wrappers import stable as stable
    from jopt.wrappers import swa as swa
    from jopt.wrappers import trust_ratio as trust_ratio
else:  # a checker of types is not to see `__getattr__`, by which any name would do
    from jopt.base.later import later as _later

    # Half of what `import jopt` would run, most of which a program does not need.
    __getattr__, __dir__ = _later(
        globals(),
        {
            "checkpoint": (
                "Checkpoints",
                "from_bytes",
                "load",
                "load_state_dict",
                "save",
                "state_dict",
                "to_bytes",
            ),
            "optimizers": None,  # all that it exports: the list of them is there
            "recipes": (),
            "tables": ("Summary", "summary"),
            "transforms": (
                "adaptive_grad_clip",
                "add_decayed_weights",
                "add_noise",
                "average_updates",
                "centralize",
                "clip_by_block_rms",
                "clip_by_global_norm",
                "clip_by_norm",
                "clip_by_unit_norm",
                "clip_by_value",
                "differentially_private",
                "grokfast",
                "grokfast_ma",
                "hessian_diagonal",
                "identity",
                "keep_params_nonnegative",
                "normalize_by_update_norm",
                "scale",
                "scale_by_backtracking_linesearch",
                "scale_by_learning_rate",
                "scale_by_zoom_linesearch",
                "set_to_zero",
                "stateless",
                "trace",
                "zero_nans",
            ),
            "wrappers": (
                "accumulate",
                "asam",
                "cautious",
                "cautious_decay",
                "conditionally",
                "ema",
                "eval_params",
                "galore",
                "grams",
                "hyperball",
                "lookahead",
                "loss_scale",
                "loss_scale_of",
                "mars",
                "master_weights",
                "mechanize",
                "monitor",
                "sam",
                "schedule_free",
                "skip_large_updates",
                "skip_nonfinite",
                "skip_spikes",
                "stable",
                "swa",
                "trust_ratio",
            ),
        },
    )
