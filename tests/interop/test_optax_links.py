"""States of optax's running sums and means, as links of a chain: over, on, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import export_state, import_state

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": {"c": jnp.zeros(3)}}
CASES = {
    "trace": (jopt.trace(0.9), optax.trace(0.9)),
    "mean": (jopt.average_updates(0.9, debias=False), optax.ema(0.9, debias=False)),
}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_over_on_and_back(name, last):
    mine, theirs = CASES[name]
    if not last:
        mine = jopt.chain(mine, jopt.scale_by_learning_rate(0.1))
        theirs = optax.chain(theirs, optax.scale_by_learning_rate(0.1))
    grads = jax.tree.map(lambda p: p + 1.0, PARAMS)
    old = theirs.init(PARAMS)
    _, saved = theirs.update(grads, old, PARAMS)
    state = import_state(mine, PARAMS, saved, count=1)
    updates, state = mine.update(grads, state, PARAMS)
    expected, after = theirs.update(grads, saved, PARAMS)
    back = export_state(mine, PARAMS, state, old)
    for a, b in ((updates, expected), (back, after)):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)
