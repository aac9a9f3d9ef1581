"""Line searches as transforms: optax's rule for backtracking, the Wolfe conditions for zooming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

START = {"w": jnp.array([-1.2, 1.0])}


def rosenbrock(p):
    x, y = p["w"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def run(tx, n, f=rosenbrock, params=START, given=True):
    state, seen = tx.init(params), []

    @jax.jit
    def step(state, params):
        value, grad = jax.value_and_grad(f)(params)
        extra = {"value": value, "grad": grad} if given else {}
        updates, state = tx.update(grad, state, params, value_fn=f, **extra)
        return optax.apply_updates(params, updates), state

    for _ in range(n):
        params, state = step(state, params)
        seen.append(params["w"])
    return np.stack(seen), state


@pytest.mark.usefixtures("x64")
def test_backtracking_is_optaxs():
    mine = jopt.chain(jopt.sgd(1.0), jopt.scale_by_backtracking_linesearch(40))
    other = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(40))
    start = {"w": jnp.array([-1.2, 1.0], "float64")}
    found, state = run(mine, 20, params=start)
    with jax.numpy_dtype_promotion("standard"):
        expected, theirs = run(other, 20, params=start)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    node = state["scale_by_backtracking_linesearch"]
    np.testing.assert_allclose(node["step_size"]["default"], theirs[1].learning_rate, rtol=1e-13)
    without, _ = run(mine, 20, params=start, given=False)
    np.testing.assert_allclose(without, found, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strategy", ["keep", "one"])
def test_zooming_ends_where_wolfe_says(strategy):
    tx = jopt.scale_by_zoom_linesearch(30, curv_rtol=0.1, initial_guess_strategy=strategy)
    params, state = {"w": jnp.array([-1.2, 1.0], "float64")}, None
    state = tx.init(params)
    for _ in range(4):
        value, grad = jax.value_and_grad(rosenbrock)(params)
        down = jax.tree.map(jnp.negative, grad)
        step, state = tx.update(down, state, params, value_fn=rosenbrock)
        t = float(jopt.metrics(state)["scale_by_zoom_linesearch/step_size"])
        np.testing.assert_allclose(step["w"], t * down["w"], rtol=1e-13)
        after = optax.apply_updates(params, step)
        slope = -float(jnp.vdot(grad["w"], grad["w"]))
        new, there = jax.value_and_grad(rosenbrock)(after)
        assert float(new) <= float(value) + 1e-4 * t * slope
        assert abs(float(jnp.vdot(there["w"], down["w"]))) <= -0.1 * slope
        params = after


SEARCHES = {
    "backtracking": jopt.scale_by_backtracking_linesearch(4),
    "zoom": jopt.scale_by_zoom_linesearch(4),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_where_nothing_is_lower_there_is_no_step_and_the_next_search_starts_anew(name):
    tx, params = SEARCHES[name], {"w": jnp.array([1.0])}

    def f(p):
        return jnp.sum(p["w"] ** 2)

    state = tx.init(params)
    up, state = tx.update({"w": jnp.array([2.0])}, state, params, value_fn=f)
    assert float(up["w"][0]) == 0.0
    wild, state = tx.update({"w": jnp.array([jnp.inf])}, state, params, value_fn=f)
    assert float(wild["w"][0]) == 0.0
    down, _ = tx.update({"w": jnp.array([-1.0])}, state, params, value_fn=f)
    assert float(down["w"][0]) == -1.0


@pytest.mark.parametrize("name", SEARCHES)
def test_complex_frozen_and_half_precision_leaves(name):
    groups = {"f": jopt.group("f", freeze=True)}
    tx = jopt.chain(jopt.sgd(1.0, groups=groups), SEARCHES[name])
    params = {
        "z": jnp.complex64(1 + 2j),
        "h": jnp.bfloat16(2.0),
        "f": jnp.float32(5.0),
    }

    def f(p):
        return jnp.abs(p["z"]) ** 2 + p["h"].astype(jnp.float32) ** 2 + p["f"]

    value, grad = jax.value_and_grad(f)(params)
    grad = jax.tree.map(jnp.conj, grad)
    ways = [{"value_fn": f}, {"value_fn": f, "value": value, "grad": grad}]
    found = [tx.update(grad, tx.init(params), params, **extra)[0] for extra in ways]
    for updates in found:
        after = jopt.apply_updates(params, updates)
        assert float(f(after)) < float(value) - 4
        assert float(updates["f"]) == 0.0
    np.testing.assert_allclose(*(u["z"] for u in found), rtol=1e-5)


def test_what_a_search_does_not_take():
    for make in (jopt.scale_by_backtracking_linesearch, jopt.scale_by_zoom_linesearch):
        with pytest.raises(jopt.ConfigError, match="is a number of trials"):
            make(2.5)
    with pytest.raises(jopt.ConfigError, match="no such first trial"):
        jopt.scale_by_zoom_linesearch(3, initial_guess_strategy="two")
    tx = SEARCHES["zoom"]
    with pytest.raises(jopt.ConfigError, match="update needs value_fn="):
        tx.update(START, tx.init(START), START)


def test_how_far_and_how_exactly_zooming_goes():
    falls, bowl = (lambda p: -p), (lambda p: (p - 1.25) ** 2)
    level = lambda p: 1e8 + jnp.where(p > 0.5, 8.0, 0.0) + 1e-3 * (p - 1) ** 2  # noqa: E731

    def length(f, steps=3, **numbers):
        tx = jopt.scale_by_zoom_linesearch(steps, **numbers)
        p = jnp.float32(0)
        return float(jax.jit(lambda s: tx.update(p + 1, s, p, value_fn=f)[0])(tx.init(p)))

    assert [length(falls), length(falls, increase_factor=3.0)] == [8, 27]
    assert length(falls, max_learning_rate=5.0) == 5
    assert length(falls, max_learning_rate=0.25) == 0.25
    assert length(bowl, curv_rtol=0.01) == pytest.approx(1.25)
    assert length(bowl, curv_rtol=0.01, tol=0.6) == 1
    # One digit of the value above, and at the minimum by its slope.
    assert length(level) == 1
    assert length(level, approx_dec_rtol=None) < 0.5
