"""LARS: momentum, with a rate for each layer."""

from __future__ import annotations

from typing import Any, Unpack

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import trusted

SPEC = Spec(
    name="lars",
    hypers=(
        RATE,
        DECAY,
        Hyper("trust_coefficient", "[0, inf)"),
        EPS,
        Hyper("momentum", "[0, 1)", optional="zero"),
    ),
    slots=(Slot("momentum_buffer", when=lambda on: on["momentum"]),),
    options={"nesterov": None},
    gives="direction",
    decay="gradient",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `lars`."""
    u = trusted(g, p, g, coefficient=h.trust_coefficient, eps=h.eps)
    if h.momentum is None:
        return u, {}
    b = h.momentum * s.momentum_buffer + u
    return u + h.momentum * b if h.nesterov else b, {"momentum_buffer": b}


@optimizer(SPEC, rule)
def lars(
    learning_rate: Value = 1.0,
    weight_decay: Value = 0.0,
    *,
    trust_coefficient: Value = 1e-3,
    eps: Value = 0.0,
    momentum: Value = 0.9,
    nesterov: bool = False,
    **common: Unpack[Coupled],
) -> None:
    """LARS: SGD for very large batches; each parameter's gradient is scaled to its norm.

    With η the learning rate, λ the weight decay, τ the trust coefficient and m the momentum:

        g ← g + λ·p
        u ← τ·‖p‖ / (‖g‖ + ε)·g
        b ← m·b + u
        p ← p − η·b;  p − η·(u + m·b) with nesterov

    Where ‖p‖ or ‖g‖ is 0, u is g. The norms are of a leaf, or of each tensor of one by `axes`. The
    buffer does not hold η, so that a change of the learning rate acts at once; optax's does, and
    the paper's.

    Biases and scales are usually left out of the scaling, which is `jopt.sgd` for them:
    `jopt.route(jopt.lars(...), plain=("(bias|scale)$", jopt.sgd(..., momentum=0.9)))`.

    **Arguments** (defaults are optax's; η has none elsewhere):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `trust_coefficient`: τ ≥ 0.
    - `eps`: ε ≥ 0.
    - `momentum`: m in [0, 1). Off, or the number 0, keeps no buffer and takes `momentum` out of
      the state.
    - `nesterov`: look ahead along the buffer.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** with momentum `momentum_buffer`, like the parameters; else none.

    **Raises:** `ConfigError` for a number out of range.

    Source: You, Gitman and Ginsburg, 2017, algorithm 1. Under the ratio is the norm of g with
    the decay in it, as in optax, where the paper has ‖g‖ + λ·‖p‖ of the bare gradient, which is
    never less.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.lars(0.5, trust_coefficient=0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.95
    """
