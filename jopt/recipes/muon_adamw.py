"""Muon for the matrices inside a network, AdamW for all the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from jopt.base import ConfigError, configured
from jopt.core import Groups, Skips, StateDtype, Transform, Value, route
from jopt.core.axes import Pattern, check_axes
from jopt.core.groups import Match
from jopt.core.match import settled_match
from jopt.core.matrices import Lines, Matrices
from jopt.core.numbers import StatefulSchedule
from jopt.core.storage import each_of
from jopt.optimizers import adamw, muon
from jopt.optimizers.adamw import SPEC as ADAMW
from jopt.optimizers.muon import SPEC as MUON
from jopt.schedules import product

HEADS = (
    r"(?i)((lm|mlm|output|out|cls|class|classifier|classification|decoder|final|mlp|policy|pred|"
    r"prediction|qa|task|token|value|vocab)_?)?head(_\d+)?|lm_out|logits|embed_out"
)
"""What output layers are called: a key of the path, all of it."""


@configured("jopt.recipes.")
def muon_adamw(
    learning_rate: Value = 2e-2,
    *,
    adamw_learning_rate: Value | None = None,
    adamw_ratio: float | None = None,
    exclude: str = HEADS,
    also_adamw: Match | None = None,
    also_muon: Match | None = None,
    axes: Mapping[Pattern, str] | None = None,
    weight_decay: Value = 0.1,
    momentum: Value = 0.95,
    b1: Value = 0.9,
    b2: Value = 0.95,
    eps: Value = 1e-10,
    adjust_lr: Literal["original", "match_rms_adamw"] | None = None,
    kernels: Literal["out_in", "in_out"] = "in_out",
    adamw_groups: Groups = None,
    state_dtype: StateDtype = None,
    skips: Skips = None,
) -> Transform:
    """Muon for the matrices inside a network, AdamW for all the rest.

    A parameter of two axes goes to Muon, unless its path says that it is something else:

    - biases, scales and norms, by the names that flax, equinox, haiku and torch give them: under
      `nn.scan` or in heads these have two axes and more;
    - embeddings (a word such as `Embed`, `tok_embedding`, `wte`);
    - output layers, see `exclude`.

    Of parameters of three axes and more it knows stacked layers (`nn.scan`, experts), whose biases
    or scales show how many there are, and flax's own attention and convolutions, by these rules:

    - a module with kernels in `query`, `key`, `value` and `out` whose heads agree is attention;
      `(d, heads, k)` is seen as `d (heads k)`, `out` as `(heads k) d`;
    - a `kernel` in a module whose key has the word `conv` is a convolution, seen as `(h w i) o`;
      with one input a filter, as where convolutions are depthwise, AdamW has it. No shape tells
      other convolutions in groups: give these to AdamW;
    - in a stack of layers each of these is what it is in one layer, and one axis is a vector.

    All others are refused until `axes` says which matrices they are, or `also_adamw` that AdamW
    is to have them.

    `jopt.routing(tx, params)` lists who goes where, and as what; look at it once for every new
    model.

    **Arguments:**

    - `learning_rate`: Muon's; 0.02 is Jordan's.
    - `adamw_learning_rate`: AdamW's. `None` is 3·10⁻⁴ unless there is a ratio: Jordan's for his
      auxiliary Adam, as are `b1` and `eps`.
    - `adamw_ratio`: AdamW's learning rate as so many times Muon's, a number: one schedule for both.
    - `exclude`: parameters with a key that this pattern matches go to AdamW: all of one key
      of the path or of several in a row, as `head` and `decoder/out`. The default has names of
      heads: `head`, `lm_head`, `logits` and the like.
    - `also_adamw`: more for AdamW: a pattern searched in the path, or a predicate, as in
      `jopt.group`.
    - `also_muon`: matrices whose name or place says otherwise: as `also_adamw`.
    - `axes`: `{pattern: axes}`: more for Muon, and which matrices it is, see `jopt.Common`.
    - `weight_decay`: of both, decoupled; 0.1 is torch's for Muon.
    - `momentum`, `adjust_lr`: Muon's, see `jopt.muon`.
    - `kernels`: how matrices are stored; `"in_out"`, as flax does, is the default here.
    - `b1`, `b2`, `eps`: AdamW's.
    - `adamw_groups`: groups among the leaves that AdamW has.
    - `state_dtype`: how the slots of both are stored, see `jopt.Common`.
    - `skips`: which of AdamW's leaves may have no gradient at some steps, see `jopt.Common`;
      Muon's may.

    **State:** `{"route": {"inner": {"muon": {...}, "adamw": {...}}}}`.

    **Raises:** `GroupError`, when the optimizer meets the parameters, for those that may be
    stacks, all of them named; for a pattern that matches no leaf, or no matrix left for Muon.

    **One rate.** With `adjust_lr="match_rms_adamw"` Muon's steps have the size of AdamW's, and the
    learning rate and decay that suited AdamW alone suit both:

    >>> import jax.numpy as jnp, jopt
    >>> rate = jopt.schedules.warmup_cosine(3e-3, 10, 100)
    >>> tx = jopt.recipes.muon_adamw(rate, adamw_ratio=1.0, adjust_lr="match_rms_adamw")
    >>> params = {"embed": {"w": jnp.ones((9, 4))}, "mlp": {"kernel": jnp.ones((4, 8)),
    ...           "bias": jnp.ones(8)}}
    >>> jopt.routing(tx, params)
    {'embed/w': 'rest', 'mlp/bias': 'rest', 'mlp/kernel': 'matrices'}

    Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu
    et al., 2025, "Muon is scalable for LLM training", for the one rate.
    """
    try:
        if not isinstance(exclude, str | re.Pattern):
            raise ConfigError("muon_adamw", "exclude is a pattern", found=repr(exclude)[:100])
        re.compile(exclude)
    except re.error as error:
        problem = f"exclude is no regular expression: {error}"
        raise ConfigError("muon_adamw", problem, found=repr(exclude)) from None
    to_adamw, to_muon = [
        None if match is None else settled_match("muon_adamw", f"{name}=", match)
        for name, match in (("also_adamw", also_adamw), ("also_muon", also_muon))
    ]
    of_matrices = Matrices(exclude, to_adamw, to_muon, check_axes("muon_adamw", axes), HEADS)
    of_muon, of_adamw = each_of(state_dtype, MUON, ADAMW)
    matrices = muon(
        learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        adjust_lr=adjust_lr,
        kernels=kernels,
        state_dtype=of_muon,
        skips=skips,
        axes=Lines(of_matrices),
    )
    rest = adamw(
        _rate(learning_rate, adamw_learning_rate, adamw_ratio),
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        groups=adamw_groups,
        state_dtype=of_adamw,
        skips=skips,
    )
    return route(rest, matrices=(of_matrices, matrices))


def _rate(of_muon: Value, own: Value | None, ratio: float | None) -> Value:
    """AdamW's learning rate."""
    if ratio is None:
        return 3e-4 if own is None else own
    if own is not None:
        raise ConfigError(
            "muon_adamw",
            "AdamW has a learning rate twice",
            found=f"adamw_learning_rate={own!r}, adamw_ratio={ratio!r}",
            fix="Drop one.",
        )
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < math.inf:
        raise ConfigError(
            "muon_adamw", "adamw_ratio is a number", expected="[0, inf)", found=repr(ratio)
        )
    if isinstance(of_muon, StatefulSchedule):
        raise ConfigError(
            "muon_adamw",
            "a schedule with a memory cannot be shared",
            found=repr(of_muon),
            fix="Give adamw_learning_rate= a schedule of its own: both see the same metric.",
        )
    return product(ratio, of_muon) if callable(of_muon) else of_muon * ratio
