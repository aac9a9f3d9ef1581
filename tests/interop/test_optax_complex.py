"""States of complex parameters, which optax splits in two, move in, and back."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import export_state, import_state

PARAMS = {"z": jnp.array([1 + 2j, -0.5j, 3]), "x": jnp.linspace(-1.0, 1.0, 4)}
split = optax.contrib.split_real_and_imaginary

EACH = pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda: split(optax.adamw(0.1)), lambda: jopt.adamw(0.1, weight_decay=1e-4)),
        (
            lambda: optax.chain(optax.clip_by_global_norm(1.0), split(optax.sgd(0.1, 0.9))),
            lambda: jopt.chain(jopt.clip_by_global_norm(1.0), jopt.sgd(0.1, momentum=0.9)),
        ),
        (lambda: split(optax.adabelief(0.1)), lambda: jopt.adabelief(0.1)),
        (
            lambda: split(optax.lbfgs(0.1, 3, linesearch=None)),
            lambda: jopt.lbfgs(0.1, max_iter=1, history_size=3),
        ),
    ],
    ids=["adamw", "clip, sgd", "adabelief", "lbfgs"],
)


def gradient(params):
    return jax.tree.map(lambda x: x * abs(x) - 0.3, params)


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def run(tx, params, state, steps):
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            updates, state = tx.update(gradient(params), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


@EACH
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.sampled
def test_a_split_state_goes_on_and_back(theirs, ours, stored):
    theirs, tx = theirs(), ours()
    params, old = run(theirs, PARAMS, theirs.init(PARAMS), 3)
    given = flax.serialization.to_state_dict(old) if stored else old
    state = import_state(tx, params, given, count=3)
    back = export_state(tx, params, state, theirs.init(params))
    assert jax.tree.structure(back) == jax.tree.structure(old)
    same(back, old)
    same(run(tx, params, state, 3)[0], run(theirs, params, old, 3)[0])


def test_squares_of_one_array_are_not_those_of_two():
    params, old = run(optax.adam(0.1), PARAMS, optax.adam(0.1).init(PARAMS), 2)
    with pytest.raises(jopt.StateError, match="squares a complex gradient whole"):
        import_state(jopt.adam(0.1), params, old)
