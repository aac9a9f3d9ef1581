"""signSGD: the sign of the gradient."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE

SPEC = Spec(
    name="sign_sgd",
    hypers=(RATE, DECAY),
    gives="direction",
    decay="step",
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sign_sgd`."""
    return jnp.sign(g), {}


@optimizer(SPEC, rule)
def sign_sgd(
    learning_rate: Value = 1e-4,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """signSGD: every entry moves by ±η, against the sign of its gradient.

    With η the learning rate and λ the weight decay:

        p ← p·(1 − η·λ) − η·sign(g)

    `jopt.signum` takes the sign of a momentum instead.

    **Arguments** (η is the paper's default):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** none.

    **Raises:** `ConfigError` for a number out of range.

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, 2018, algorithm 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sign_sgd(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
