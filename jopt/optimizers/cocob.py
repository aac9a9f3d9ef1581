"""COCOB: bets on coins instead of a learning rate."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Number, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE

SPEC = Spec(
    name="cocob",
    hypers=(RATE, Hyper("alpha", "(0, inf)"), Hyper("eps", "(0, inf)", scheduled=False), DECAY),
    # The parameter is made of these alone: what rounding takes from one would move it.
    slots=(
        Slot("start", init=lambda p: p, compress=False),
        Slot("grad_sum", compress=False),
        Slot("abs_sum", signed=False, compress=False),
        Slot("largest", init="eps", signed=False, compress=False),
        Slot("reward", signed=False, compress=False),
    ),
    gives="step",
    decay="gradient",
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `cocob`."""
    g = h.learning_rate * g
    largest = jnp.maximum(s.largest, jnp.abs(g))
    total, spent = s.grad_sum - g, s.abs_sum + jnp.abs(g)
    reward = jnp.maximum(s.reward - g * (p - s.start), 0)
    # In this order nothing leaves the range that gradients are in.
    share = (largest + reward) / jnp.maximum(spent + largest, h.alpha * largest)
    new = {"start": s.start, "grad_sum": total, "abs_sum": spent, "largest": largest}
    return p - (s.start + total / largest * share), new | {"reward": reward}


@optimizer(SPEC, rule)
def cocob(
    learning_rate: Value = 1.0,
    alpha: Value = 100.0,
    eps: Number = 1e-8,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """COCOB-Backprop: each entry is what a gambler holds who bets on the sign of its gradient.

    With η the learning rate, λ the weight decay and x₀ the parameter at the start:

        g ← η·(g + λ·p)
        L ← max(L, |g|),  from ε
        G ← G + |g|
        R ← max(R − g·(p − x₀), 0)
        θ ← θ − g
        p ← x₀ + θ / (L·max(G + L, α·L))·(L + R)

    There is no learning rate to tune: gradients that are all ten times larger give the same
    steps. η only weighs the gradients of one step against those of others, by a schedule.

    **Arguments** (defaults are the paper's and optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule, times the gradient.
    - `alpha`: α > 0: the first steps move by at most 1 / α.
    - `eps`: ε > 0, the least that gradients count as. A number, read when the state is made.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `start`, x₀, `grad_sum`, θ, `abs_sum`, G, `largest`, L, and `reward`, R, like the
    parameters, in at least float32, never compressed.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `eps`.

    Source: Orabona and Tommasi, 2017, algorithm 2.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.cocob()
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.99
    """
