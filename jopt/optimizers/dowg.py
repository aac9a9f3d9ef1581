"""DoWG: the distance gone over the gradients met, each weighted by its distance."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Number, Slot, Spec, Value, optimizer, treewise
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import Norm, cast, together

START = Hyper("init_estim_sq_dist", "(0, inf)", optional=True, scheduled=False)
SPEC = Spec(
    name="dowg",
    hypers=(RATE, START, Hyper("eps", "(0, inf)"), DECAY),
    slots=(
        # The distance to it is a small difference.
        Slot("start", init=lambda p: p, compress=False),
        Slot("distance", scope="group"),
        Slot("grad_norm", scope="group"),
    ),
    gives="direction",
    decay="gradient",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `dowg`."""
    gone = [x - x0 for x, x0 in zip(p, s.start, strict=True)]
    (by, far), (of_g, met) = together(Norm(gone), Norm(g), bare=True)
    far, met = far / by, met / of_g
    least = jnp.sqrt(h.eps if h.init_estim_sq_dist is None else h.init_estim_sq_dist)
    distance = jnp.maximum(jnp.maximum(cast(s.distance, far.dtype), far), least)
    met = jnp.hypot(cast(s.grad_norm, far.dtype), distance * met)
    rate = distance * (distance / (met + h.eps))
    d = [cast(rate, x.dtype) * x for x in g]
    return d, {"start": s.start, "distance": distance, "grad_norm": met}


@optimizer(SPEC, rule, door=treewise)
def dowg(
    learning_rate: Value = 1.0,
    init_estim_sq_dist: Number | None = None,
    eps: Value = 1e-4,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """DoWG: DoG whose gradients count the more the farther from the start they were met.

    With η the learning rate, λ the weight decay, x₀ the parameters at the start and all of them
    as one vector:

        g ← g + λ·p
        r ← max(r, ‖p − x₀‖),  at least r₀
        G ← √(G² + r²·‖g‖²)
        p ← p − η·r² / (G + ε)·g

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule, relative to what is found.
    - `init_estim_sq_dist`: r₀² > 0. `None` takes ε and stays out of the state.
    - `eps`: ε > 0.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

      Each group has a distance of its own.

    **State:** `start`, x₀, like the parameters, in at least float32, never compressed; and
    `distance`, r, and `grad_norm`, G, a number each for a group.

    **Raises:** `ConfigError` for a number out of range.

    Source: Khaled, Mishchenko and Jin, 2023, algorithm 1. Norms are right wherever the numbers
    are, also where their squares are out of range, so r and G are kept and not their squares.

    >>> import jax, jax.numpy as jnp, jopt
    >>> tx, params = jopt.dowg(), {"w": jnp.float32(1.0)}
    >>> state, update = tx.init(params), jax.jit(tx.update)
    >>> for _ in range(100):
    ...     updates, state = update({"w": 2 * params["w"]}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> bool(abs(params["w"]) < 0.1)
    True
    """
