"""Running states of optax's L-BFGS move in, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import export_state, import_state

PARAMS = {"w": jnp.array([1.5, -0.5, 2.0]), "b": jnp.array(0.3)}
NONE = {"tolerance_grad": 0.0, "tolerance_change": 0.0, "min_curvature": 0.0}


def loss(params):
    bowl = jnp.sum(jnp.array([1.0, 2.0, 3.0]) * jnp.square(params["w"]))
    return bowl + jnp.square(params["b"] - params["w"][0]) + 0.1 * params["b"] ** 4


def run(tx, params, state, steps):
    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(loss)(params)
        given = {"value": value, "grad": grad, "value_fn": loss}
        if isinstance(tx, jopt.Transform):
            given = {"value": value, "value_fn": loss}
        updates, state = tx.update(grad, state, params, **given)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            params, state = step(params, state)
    return params, state


def close(a, b, rtol=1e-8):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("steps", [pytest.param(0, marks=pytest.mark.slow), 2, 5])
def test_the_pairs_go_on_where_the_ring_is_and_back(steps, x64):
    start = jax.tree.map(lambda x: x.astype("float64"), PARAMS)
    theirs = optax.lbfgs(0.5, memory_size=3, linesearch=None)
    tx = jopt.lbfgs(0.5, max_iter=1, history_size=3, **NONE)
    params, old = run(theirs, start, theirs.init(start), steps)
    state = import_state(tx, params, old)
    node, other = state["lbfgs"], old[0]
    assert int(node["n_pairs"]["default"]) == max(steps - 1, 0)
    back = export_state(tx, params, state, theirs.init(params))[0]
    for name in ("diff_params_memory", "diff_updates_memory", "updates", "count"):
        jax.tree.map(np.testing.assert_array_equal, getattr(back, name), getattr(other, name))
    close((back.params, back.weights_memory), (other.params, other.weights_memory))
    if steps:  # optax makes the first one as long as 1 over another norm
        close(run(tx, params, state, 2)[0], run(theirs, params, old, 2)[0])


def test_the_length_that_its_line_search_found_is_that_of_the_last_step():
    theirs, tx = optax.lbfgs(memory_size=4), jopt.lbfgs(history_size=4, line_search="strong_wolfe")
    params, old = run(theirs, PARAMS, theirs.init(PARAMS), 3)
    state = import_state(tx, params, old)
    back = export_state(tx, params, state, theirs.init(params))
    assert float(back[2].learning_rate) == float(old[2].learning_rate)
    same = (back[0].params, back[0].weights_memory), (old[0].params, old[0].weights_memory)
    close(*same, rtol=1e-4)
    assert loss(run(tx, params, state, 1)[0]) < 1e-2 * loss(params)


def test_pairs_that_jopt_would_not_have_are_an_error():
    theirs, tx = optax.lbfgs(0.5, linesearch=None), jopt.lbfgs(max_iter=1, history_size=10)
    state = theirs.init(PARAMS)
    bad = state[0]._replace(count=jnp.int32(2), weights_memory=jnp.full(10, -1.0))
    with pytest.raises(jopt.StateError, match="without positive curvature"):
        import_state(tx, PARAMS, (bad, *state[1:]))
    with pytest.raises(jopt.StateError, match="expected in ScaleByLBFGSState"):
        import_state(tx, PARAMS, optax.sgd(0.1).init(PARAMS))
