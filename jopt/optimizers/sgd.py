"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.groups import switched
from jopt.core.numbers import is_schedule
from jopt.core.vocabulary import DECAY, RATE

SPEC = Spec(
    name="sgd",
    torch="SGD",
    hypers=(
        RATE,
        Hyper("momentum", "[0, inf)", torch="momentum", optional="zero"),
        Hyper("dampening", torch="dampening", optional=True, beside="momentum"),
        DECAY,
    ),
    slots=(Slot("momentum_buffer", when=lambda on: on["momentum"], torch="momentum_buffer"),),
    options={"nesterov": "nesterov", "maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=lambda on: on["momentum"],
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sgd`."""
    if h.momentum is None:
        return g, {}
    b = jnp.where(h.t == 1, g, h.momentum * s.momentum_buffer + (1 - h.dampening) * g)
    d = g + h.momentum * b if h.nesterov else b
    # A momentum that is 0 for now (in a group, edited, scheduled) rests the buffer, as in torch.
    on = h.momentum != 0
    return jnp.where(on, d, g), {"momentum_buffer": jnp.where(on, b, s.momentum_buffer)}


@optimizer(SPEC, rule)
def sgd(
    learning_rate: Value = 1e-3,
    momentum: Value = False,
    *,
    dampening: Value = 0.0,
    weight_decay: Value = 0.0,
    nesterov: bool = False,
    **common: Unpack[Coupled],
) -> None:
    """Stochastic gradient descent, as `torch.optim.SGD`.

    With η the learning rate, λ the weight decay, μ the momentum and τ the dampening:

        g ← g + λ·p
        b ← g at the first step, then μ·b + (1 − τ)·g
        d ← g + μ·b with nesterov, else b; g without momentum
        p ← p − η·d

    The first step is not dampened, and the buffer does not hold η, so that a change of the
    learning rate acts at once. The update is −η·d: adding it gives p exactly as written.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `momentum`: μ ≥ 0. Off, or the number 0, keeps no buffer and takes `momentum` out of the
      state, unless a group has a momentum of its own. While it is 0 by an edit, a group or a
      schedule, p ← p − η·g and the buffer rests, as in torch.
    - `dampening`: τ. Without momentum it has no meaning and no place in the state.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `nesterov`: look ahead; needs momentum above 0 and no dampening.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** with momentum `momentum_buffer`, like the parameters, and the step count; else none.

    **Raises:** `ConfigError` for a number out of range, or nesterov without momentum or with
    dampening.

    Source: Sutskever, Martens, Dahl and Hinton, 2013, with torch's buffer, which leaves the
    learning rate out.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sgd(0.1, momentum=0.9)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8
    """
    if not is_schedule(dampening):  # also where it has no meaning
        SPEC.by_name["dampening"].check("sgd", dampening)
    off = not switched(SPEC, {"momentum": momentum}, common.get("groups"))
    undampened = isinstance(dampening, jax.Array) or dampening == 0  # a traced one may be
    if nesterov and (off or not undampened):
        raise ConfigError(
            "sgd",
            "nesterov looks ahead along an undampened momentum",
            expected="momentum > 0 and dampening = 0",
            found=f"momentum = {momentum!r}, dampening = {dampening!r}",
        )
