"""Tiger: the sign of a momentum, at the scale of the parameter."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decaying, Hyper, Spec, Value, optimizer
from jopt.core.vocabulary import B1, DECAY, MU, RATE
from jopt.numerics import lerp, norm

SPEC = Spec(
    name="tiger",
    hypers=(RATE, B1, Hyper("min_scale", "[0, inf)"), DECAY),
    slots=(MU,),
    options={"relative": None},
    gives="direction",
    decay="rule",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `tiger`."""
    mu = lerp(s.mu, g, 1 - h.b1)
    d = jnp.sign(mu) + h.weight_decay * p
    if not h.relative:
        return d, {"mu": mu}
    if h.ndim < 2:
        return 0.5 * d, {"mu": mu}
    rms = norm(p) / max(p.size, 1) ** 0.5
    return jnp.maximum(rms, h.min_scale) * d, {"mu": mu}


@optimizer(SPEC, rule)
def tiger(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.965,
    weight_decay: Value = 0.01,
    relative: bool = True,
    min_scale: Value = 1e-3,
    **common: Unpack[Decaying],
) -> None:
    """Tiger: every entry of a leaf moves by as much, a fraction η of the leaf's root mean square.

    With η the learning rate and λ the weight decay:

        μ ← β·μ + (1 − β)·g
        α ← max(RMS(p), ρ);  ½ for vectors and numbers
        p ← p − η·α·(sign(μ) + λ·p)

    It is Lion with one β, whose learning rate is relative, as Adafactor's.

    **Arguments** (η, β and λ are the author's defaults, ρ is Adafactor's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`: β in [0, 1).
    - `weight_decay`: λ ≥ 0, times η·α. With `decoupled` it is times η alone. The author has none
      for biases and scales: say so by `groups`.
    - `relative`: `False` takes 1 for α.
    - `min_scale`: ρ ≥ 0. At the author's 0 a matrix that begins as 0 never moves.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decaying`. RMS is of a leaf, or of each tensor of one by `axes`.

    **State:** `mu` like the parameters, in at least float32.

    **Raises:** `ConfigError` for a number out of range.

    Source: Su, 2023, "Tiger: a tight-fisted optimizer", and its code. There names tell what is a
    bias, and an embedding has an RMS for each row: here shapes do, and `axes`. What it does about
    gradients that are not finite is left to `jopt.skip_nonfinite`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.tiger(0.1, weight_decay=0.0)
    >>> params = {"w": jnp.full((2, 2), 3.0)}
    >>> updates, state = tx.update({"w": jnp.ones((2, 2))}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w'][0, 0]), 4)
    2.7
    """
