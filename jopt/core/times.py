"""A factor in a number's place: so many times what the leaf would otherwise have."""

from __future__ import annotations

from jax import Array

from jopt.base import Configured, configured
from jopt.core.spec import Hyper

FACTOR = Hyper("factor", "[0, inf)")


class Times(Configured):
    """What `jopt.times` returns."""

    def __init__(self, factor: float | Array) -> None:
        FACTOR.check("times", factor)
        self.factor = factor


@configured("jopt.")
def times(factor: float | Array) -> Times:
    """A group's number as so many times what its leaves would otherwise have.

    That is the default's number or another group's, a number or a schedule, and what becomes of
    it: an edit of it moves the product. Of a leaf in several groups with factors all are
    multiplied. The factor is itself a number in the state:
    `jopt.set_hyperparams(state, group="head", learning_rate=jopt.times(3))` changes it.

    **Arguments:** `factor`: a number from 0.

    **State:** `node["times"][group][name]`, the factor. `jopt.hyperparams` shows the product.

    **Raises:** `ConfigError` for a factor that is out of range. When the optimizer is built: for
    one of a number that is switched off, or that takes the number out of its range.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sgd(0.1, groups={"head": jopt.group("^head", learning_rate=jopt.times(10))})
    >>> state = tx.init({"head": jnp.ones(3), "body": jnp.ones(3)})
    >>> float(jopt.hyperparams(state)["sgd"]["head"]["learning_rate"])
    1.0
    >>> state = jopt.set_hyperparams(state, learning_rate=0.05)
    >>> float(jopt.hyperparams(state)["sgd"]["head"]["learning_rate"])
    0.5
    """
    return Times(factor)
