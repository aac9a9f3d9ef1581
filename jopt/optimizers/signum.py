"""Signum: the sign of the momentum, and signSGD without one."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import lerp

SPEC = Spec(
    name="signum",
    hypers=(RATE, Hyper("beta", "[0, 1)", optional="zero"), DECAY),
    slots=(Slot("mu", when=lambda on: on["beta"]),),
    gives="direction",
    decay="step",
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `signum`."""
    if h.beta is None:
        return jnp.sign(g), {}
    mu = lerp(s.mu, g, 1 - h.beta)
    return jnp.sign(mu), {"mu": mu}


@optimizer(SPEC, rule)
def signum(
    learning_rate: Value = 1e-4,
    beta: Value = 0.9,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """Signum: every entry moves by ±η, along the sign of its momentum; signSGD without momentum.

    With η the learning rate, λ the weight decay and β the momentum:

        μ ← β·μ + (1 − β)·g
        p ← p·(1 − η·λ) − η·sign(μ);  sign(g) without momentum

    **Arguments** (defaults are the paper's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `beta`: β in [0, 1), the momentum. Off, or the number 0, is signSGD: it keeps no `mu`
      and takes `beta` out of the state, unless a group has one of its own.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** with momentum `mu`, like the parameters, in at least float32; else none.

    **Raises:** `ConfigError` for a number out of range.

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, 2018, algorithms 1 and 2. The mean
    needs no bias correction, which does not change a sign.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.signum(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
