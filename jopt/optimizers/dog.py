"""DoG: the distance gone over the gradients met."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of, plain
from jopt.core import Coupled, Slot, Spec, Value, optimizer, treewise
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import Norm, cast, together

KINDS = ("heuristic", "distance", "learning_rate")
SPEC = Spec(
    name="dog",
    hypers=(RATE, EPS, DECAY),
    slots=(
        # The distance to it is a small difference.
        Slot("start", init=lambda p: p, compress=False),
        Slot("distance", scope="group"),
        Slot("grad_norm", scope="group"),
    ),
    options={"init_step": None},
    gives="direction",
    decay="gradient",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `dog`."""
    (kind, first), begins = h.init_step, s.distance == 0
    gone = [x - x0 for x, x0 in zip(p, s.start, strict=True)]
    if kind == "heuristic":
        gone = [jnp.where(begins, x, y) for x, y in zip(p, gone, strict=True)]
    (by, far), (of_g, met) = together(Norm(gone), Norm(g), bare=True)
    far, met = far / by, met / of_g
    old = cast(s.distance, far.dtype)
    least = {"heuristic": first * (1 + far), "distance": first, "learning_rate": far}[kind]
    distance = jnp.where(begins, least, jnp.maximum(old, far))

    met = jnp.hypot(cast(s.grad_norm, far.dtype), met)
    under = jnp.hypot(met, jnp.sqrt(h.eps))
    rate = jnp.where(under == 0, 0, distance / jnp.where(under == 0, 1, under))
    if kind == "learning_rate":
        rate = jnp.where(distance == 0, first, rate)
    d = [cast(rate, x.dtype) * x for x in g]
    return d, {"start": s.start, "distance": distance, "grad_norm": met}


@optimizer(SPEC, rule, door=treewise)
def dog(
    learning_rate: Value = 1.0,
    init_step: tuple[Literal["heuristic", "distance", "learning_rate"], float] = (
        "heuristic",
        1e-6,
    ),
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> dict[str, Any]:
    """DoG: SGD whose learning rate is the distance from the start over the root of all gradients.

    With η the learning rate, λ the weight decay, x₀ the parameters at the start and all of them
    as one vector:

        g ← g + λ·p
        r ← max(r, ‖p − x₀‖)
        G ← √(G² + ‖g‖²)
        p ← p − η·r / √(G² + ε)·g

    η stays at 1. The authors take an average of the parameters in the end: see `jopt.ema`.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule, relative to what is found.
    - `init_step`: where r begins, for at the first step the distance is 0: `("distance", x)` at
      x; `("heuristic", x)` at x·(1 + ‖x₀‖), with 10⁻⁶, or 10⁻⁴ with normalization in the model;
      `("learning_rate", x)` makes the first step with this learning rate in place of r / G.
    - `eps`: ε ≥ 0.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

      Each group has a distance of its own; a group for each layer is the paper's L-DoG.

    **State:** `start`, x₀, like the parameters, in at least float32, never compressed; and
    `distance`, r, and `grad_norm`, G, a number each for a group.

    **Raises:** `ConfigError` for a number out of range, or another `init_step`.

    Source: Ivgi, Hinder and Carmon, 2023, algorithm 1. Norms are right wherever the numbers are,
    also where their squares are out of range, so G is kept and not its square. With
    "learning_rate" and a first gradient of 0 the first step is the next one, where optax stands
    still for ever.

    >>> import jax, jax.numpy as jnp, jopt
    >>> tx, params = jopt.dog(init_step=("distance", 0.01)), {"w": jnp.float32(1.0)}
    >>> state, update = tx.init(params), jax.jit(tx.update)
    >>> for _ in range(100):
    ...     updates, state = update({"w": 2 * params["w"]}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> bool(abs(params["w"]) < 0.1)
    True
    """
    pair = isinstance(init_step, tuple | list) and len(init_step) == 2
    kind, first = init_step if pair else ("", 0.0)
    first = plain(first)
    if (
        not is_one_of(kind, *KINDS)
        or not isinstance(first, int | float)
        or not 0 < first < math.inf
    ):
        raise ConfigError(
            "dog",
            "there is no such init_step",
            expected="('heuristic', 'distance' or 'learning_rate', a number in (0, inf))",
            found=repr(init_step)[:100],
        )
    return {"init_step": (kind, float(first))}
