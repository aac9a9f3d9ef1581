"""Steps with gradients that are not finite: as if they had not been."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {"b": jnp.ones(3), "w": jnp.ones((4, 3))}
INNER = jopt.chain(
    jopt.clip_by_global_norm(1.0), jopt.adamw(jopt.schedules.linear(0.1, 0.0, 10), amsgrad=True)
)


def gradients(n):
    keys = jax.random.split(jax.random.key(0), (n, 2))
    return [
        {
            k: jax.random.normal(key, p.shape)
            for key, (k, p) in zip(row, PARAMS.items(), strict=True)
        }
        for row in keys
    ]


def run(tx, grads):
    params, state = PARAMS, tx.init(PARAMS)
    step = jax.jit(tx.update)
    for g in grads:
        updates, state = step(g, state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def spoiled(g, bad):
    return {**g, "w": g["w"].at[1, 2].set(bad)}


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_bad_step_did_not_happen(bad):
    grads = gradients(6)
    with_bad = [*grads[:3], spoiled(grads[3], bad), spoiled(grads[4], bad), *grads[3:]]
    tx = jopt.skip_nonfinite(INNER)
    params, state = run(tx, with_bad)
    clean, after = run(tx, grads)  # the same program, so equal means every bit
    jax.tree.map(np.testing.assert_array_equal, params, clean)
    inner = state["skip_nonfinite"]["inner"]
    jax.tree.map(np.testing.assert_array_equal, inner, after["skip_nonfinite"]["inner"])
    unwrapped, _ = run(INNER, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), clean, unwrapped)
    assert int(state["skip_nonfinite"]["total"]) == 2
    assert int(state["skip_nonfinite"]["in_a_row"]) == 0


def test_bad_steps_in_a_row_are_counted():
    g = gradients(1)[0]
    _, state = run(jopt.skip_nonfinite(INNER), [g, *[spoiled(g, np.nan)] * 3])
    assert int(state["skip_nonfinite"]["in_a_row"]) == 3


def test_a_leaf_that_sits_out_does_not_matter():
    tx = jopt.skip_nonfinite(jopt.adamw(0.1, skips=True))
    state = tx.init(PARAMS)
    updates, state = tx.update({"b": None, "w": jnp.ones((4, 3))}, state, PARAMS)
    assert float(jnp.abs(updates["w"]).min()) > 0
    assert int(state["skip_nonfinite"]["total"]) == 0
    assert state["skip_nonfinite"]["inner"]["adamw"]["leaf_count"] == {"b": 0, "w": 1}


def test_large_finite_gradients_pass():
    g = jax.tree.map(lambda p: jnp.full_like(p, 3e38), PARAMS)
    _, state = run(jopt.skip_nonfinite(jopt.sgd(1e-30)), [g])
    assert int(state["skip_nonfinite"]["total"]) == 0


def test_row_sparse_steps_are_left_out_too():
    params = {"t": jnp.ones((4, 2))}
    tx = jopt.skip_nonfinite(jopt.sparse_adam(0.1))
    g = {"t": jopt.row_gradient([1], jnp.full((1, 2), jnp.nan), params["t"])}
    updates, state = tx.update(g, tx.init(params), params)
    np.testing.assert_array_equal(jopt.apply_updates(params, updates)["t"], 1.0)
    np.testing.assert_array_equal(state["skip_nonfinite"]["inner"]["sparse_adam"]["nu"]["t"], 0.0)


def test_the_state_keeps_its_shape_in_a_scan():
    tx = jopt.skip_nonfinite(INNER)

    def step(state, g):
        return tx.update(g, state, PARAMS)[::-1]

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *gradients(3))
    state, _ = jax.lax.scan(step, tx.init(PARAMS), stacked)
    assert int(state["skip_nonfinite"]["inner"]["adamw"]["count"]) == 3
