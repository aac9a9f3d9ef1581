"""Keeping numbers out: NaN from the gradients, and what is below 0 from the parameters."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Common, Spec, optimizer

NANS = Spec("zero_nans", steps=False, elementwise=True)
NONNEGATIVE = Spec(
    "keep_params_nonnegative", steps=False, needs_params=True, complex="no", elementwise=True
)


def without_nans(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `zero_nans`."""
    return jnp.where(jnp.isnan(g), 0, g), {}


def kept_nonnegative(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `keep_params_nonnegative`."""
    return jnp.maximum(u, -p), {}


@optimizer(NANS, without_nans)
def zero_nans(**common: Unpack[Common]) -> None:
    """g ← 0 where g is NaN, entry by entry; infinities pass.

    Real and imaginary parts are looked at apart. What to do about a gradient with a NaN is a
    question of why: `jopt.skip_nonfinite` leaves the whole step out. `jopt.monitor` before it
    counts them.

    **Arguments:** `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.zero_nans(), {"w": jnp.array([jnp.nan, 2.0])}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array([0., 2.], dtype=float32)}
    """


@optimizer(NONNEGATIVE, kept_nonnegative)
def keep_params_nonnegative(**common: Unpack[Common]) -> None:
    """u ← max(u, −p), so that p + u ≥ 0: the last link of a chain, behind the optimizer.

    It is the projection onto what is not negative. A parameter that is below 0 goes to 0.

    **Arguments:** `**common`: see `jopt.Common`; leaves of a group that is frozen here move freely.

    **Raises:** `TreeError` for complex parameters, which have no order.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.chain(jopt.sgd(1.0), jopt.keep_params_nonnegative())
    >>> params = {"w": jnp.array([1.0, 3.0])}
    >>> updates, _ = tx.update({"w": jnp.array([2.0, 2.0])}, tx.init(params), params)
    >>> jopt.apply_updates(params, updates)
    {'w': Array([0., 1.], dtype=float32)}
    """
