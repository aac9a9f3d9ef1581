"""Caution: to step only where direction and gradient agree."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from jopt.base import ConfigError, configured, is_one_of
from jopt.core import Spec, Transform
from jopt.core.stage import Stage
from jopt.core.staged import staged

SPEC = Spec("cautious", steps=False)
ALONE = Spec("cautious", steps=False, elementwise=True)


def masked(d: Any, at: Any, h: Any) -> Any:
    """See `cautious`, normalized by nothing."""
    return d * _agree(d, at)


def by_count(d: Any, at: Any, h: Any) -> Any:
    """See `cautious`, normalized as in the paper."""
    agree = _agree(d, at)
    return d * (agree * (d.size / (jnp.sum(agree) + 1)))


def by_mean(d: Any, at: Any, h: Any) -> Any:
    """See `cautious`, normalized as in the paper's code."""
    agree, size = _agree(d, at), max(d.size, 1)
    return d * (agree * (size / jnp.maximum(jnp.sum(agree), 1e-3 * size)))


def _agree(d: Any, at: Any) -> Any:
    # Signs, for a product of small numbers may be 0. A product with the mask keeps a NaN.
    return (jnp.sign(d) * jnp.sign(at.g) > 0).astype(d.dtype)


ACTS = {None: masked, "count": by_count, "mean": by_mean}


@configured("jopt.")
def cautious(tx: Transform, *, normalize: Literal["count", "mean"] | None = "count") -> Transform:
    """Step only where the direction and the gradient have one sign.

    With d the direction of an optimizer, of n entries, and g the gradient that it got:

        m ← d·g > 0, entry by entry
        d ← d·m·n / (∑m + 1)                  normalize="count"
        d ← d·m·n / max(∑m, 0.001·n)          normalize="mean"
        d ← d·m                               normalize=None

    g is the gradient before coupled decay and after `maximize`. Decoupled decay is not masked:
    that is `jopt.cautious_decay`. Of an optimizer whose step has the learning rate in it, such as
    `adafactor`, it is the step that is masked.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one.
    - `normalize`: what makes up for the entries that are left out, in each leaf, or each tensor
      of one by the optimizer's `axes`: `"count"` as in the paper, `"mean"` as in its authors'
      code, or nothing, which treats each entry alone.
      The parts of complex numbers are two entries.

    **Raises:** `ConfigError` where there is no optimizer, or one whose step is its own.

    Source: Liang, Chen, Liu and Liu, 2024, "Cautious optimizers: improving training with one line
    of code", algorithm 1, and the code with it.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.cautious(jopt.sgd(1.0, momentum=0.9))
    >>> params = {"w": jnp.zeros(2)}
    >>> _, state = tx.update({"w": jnp.array([1.0, 1.0])}, tx.init(params), params)
    >>> tx.update({"w": jnp.array([1.0, -0.5])}, state, params)[0]
    {'w': Array([-1.9, -0. ], dtype=float32)}
    """
    if not is_one_of(normalize, None, "count", "mean"):
        raise ConfigError(
            "cautious",
            "there is no such way to normalize",
            expected="'count', 'mean' or None",
            found=repr(normalize),
        )
    stage = Stage(
        ALONE if normalize is None else SPEC,
        (("normalize", normalize),),
        direction=ACTS[normalize],
        after_rule=True,
        reads_gradient=True,
    )
    return staged(tx, stage)
