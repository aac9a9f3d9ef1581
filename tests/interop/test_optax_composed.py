"""Leaves in several groups: optax has one partition for each set of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jopt
from jopt.interop.optax import export_state, import_state

GROUPS = {
    "biases": jopt.group("b$", b2=0.9, learning_rate=jopt.times(0.5)),
    "head": jopt.group("^head", learning_rate=jopt.times(2)),
}
THEIRS = optax.multi_transform(
    {
        "rest": optax.adam(0.01),
        "biases": optax.adam(0.005, b2=0.9),
        "head": optax.adam(0.02),
        "both": optax.adam(0.01, b2=0.9),
    },
    {"body": {"w": "rest", "b": "biases"}, "head": {"w": "head", "b": "both"}},
)


def test_a_partition_goes_on_as_groups_and_back():
    params = {k: {"w": jnp.ones((2, 3)), "b": jnp.ones(2)} for k in ("body", "head")}
    tx, grads = jopt.adam(0.01, groups=GROUPS), jax.tree.map(lambda x: 0.3 * x, params)
    with jax.numpy_dtype_promotion("standard"):
        _, theirs = THEIRS.update(grads, THEIRS.init(params), params)
        want, _ = THEIRS.update(grads, theirs, params)
    state = import_state(tx, params, theirs)
    found, _ = tx.update(grads, state, params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    back = export_state(tx, params, state, theirs)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
