"""L-BFGS against torch's, step for step, and what jopt adds to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from tests.oracles.lbfgs_live import gaps, jopt_trace, torch_trace
from tests.oracles.optim_db import configurations

RNG = np.random.default_rng(0)
START = {"a": RNG.normal(size=5), "b": RNG.normal(size=(2, 3)), "c": RNG.normal(size=(1,))}
ROOT = RNG.normal(size=(12, 12))
HESSIAN, SLOPE = ROOT @ ROOT.T + 0.5 * np.eye(12), RNG.normal(size=12)


def joined(p):
    return jnp.concatenate([jnp.ravel(p[k]) for k in sorted(p)])


def quadratic(p):
    x = joined(p)
    return 0.5 * x @ (HESSIAN @ x) - SLOPE @ x


def rosenbrock(p):
    x = joined(p)
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


WOLFE = {"line_search_fn": "strong_wolfe"}
OPTIM_DB = tuple(configurations("LBFGS"))
MORE = (
    {"history_size": 5, **WOLFE},
    {"max_iter": 3, **WOLFE},
    {"max_iter": 1, **WOLFE},
    {"max_iter": 4, "max_eval": 9, "history_size": 4, **WOLFE},
    {"lr": 0.5, "max_eval": 3},
    {"max_iter": 1, "lr": 0.05},
    {"max_iter": 1, "lr": 0.5, "history_size": 7},
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kwargs", OPTIM_DB, ids=str)
@pytest.mark.sampled
def test_torchs_own_configurations_float64_after_a_hundred_steps(kwargs):
    ours, theirs = (run(quadratic, START, kwargs, 100) for run in (jopt_trace, torch_trace))
    assert np.max(gaps(ours, theirs)) <= 1e-12
    assert ours.func_evals == theirs.func_evals
    assert ours.n_iter == theirs.n_iter


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kwargs", OPTIM_DB + MORE, ids=str)
@pytest.mark.parametrize("fun", [quadratic, rosenbrock])
@pytest.mark.sampled
def test_it_is_as_near_to_torch_as_torch_to_itself(fun, kwargs):
    # A quasi-Newton method multiplies rounding errors, in places by 10⁸ within a few steps. So
    # the yardstick is torch from starts that differ in the last bit.
    steps = 10
    theirs = torch_trace(fun, START, kwargs, steps)
    signs, own = np.random.default_rng(1), np.zeros(steps)
    for _ in range(4):
        start = {k: v * (1 + 2.3e-16 * signs.choice([-1, 1], v.shape)) for k, v in START.items()}
        own = np.maximum(own, gaps(torch_trace(fun, start, kwargs, steps), theirs))
    ours = jopt_trace(fun, START, kwargs, steps)
    found = np.maximum.accumulate(gaps(ours, theirs))
    assert np.all(found <= 1e-13 + 10 * np.maximum.accumulate(own))
    same = int(np.sum(found <= 1e-12))
    assert same >= 1
    assert ours.func_evals[:same] == theirs.func_evals[:same]
    assert ours.n_iter[:same] == theirs.n_iter[:same]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kwargs", [{}, WOLFE, {"max_iter": 1, "lr": 0.1}], ids=str)
def test_complex128_is_torchs_pairs_of_reals(kwargs):
    def f(p):
        z = jnp.concatenate([p["a"], p["b"].ravel()])
        w = (HESSIAN[:8, :8] - 1j * SLOPE[:8]) @ z - (1 + 1j) * SLOPE[:8]
        return jnp.sum(jnp.real(w * jnp.conj(w))) + jnp.sum(jnp.real(z) ** 4)

    start = {"a": START["a"] * (1 + 0.5j), "b": START["b"][:1] * 1j}
    steps = 15 if kwargs.get("max_iter") else 1
    ours, theirs = (run(f, start, kwargs, steps) for run in (jopt_trace, torch_trace))
    assert np.max(gaps(ours, theirs)) <= 1e-12
    assert ours.func_evals == theirs.func_evals


@pytest.mark.usefixtures("x64")
def test_a_direction_alone_needs_no_function():
    # jax.grad goes through it: no loop, as nothing is evaluated.
    tx = jopt.lbfgs(0.1, max_iter=1, history_size=3)

    @jax.jit
    def after(rate):
        p = jnp.asarray([1.0, 2.0, 3.0])
        state = jopt.set_hyperparams(tx.init(p), learning_rate=rate)

        def step(carry, _):
            p, state = carry
            updates, state = tx.update(p**3, state, p)
            return (p + updates, state), None

        (p, _), _ = jax.lax.scan(step, (p, state), length=6)
        return jnp.sum(p)

    h = 1e-6
    numeric = (after(0.1 + h) - after(0.1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(after)(0.1), numeric, rtol=1e-7)


def test_the_function_may_be_undefined_beyond_a_wall():
    def f(p):
        return jnp.sum(50 * p["x"] - jnp.log(p["x"]))

    tx = jopt.lbfgs(line_search="strong_wolfe")
    params = {"x": jnp.float32([0.5, 1.0, 0.1])}
    state = tx.init(params)
    for _ in range(4):
        updates, state = tx.update(jax.grad(f)(params), state, params, value_fn=f)
        params = jopt.apply_updates(params, updates)
    np.testing.assert_allclose(params["x"], 0.02, rtol=1e-3)


def test_frozen_leaves_stay_and_have_no_history():
    def f(p):
        return jnp.sum((p["a"] - p["b"]) ** 4 + p["a"] ** 2)

    params = {"a": jnp.ones(3), "b": jnp.full(3, 2.0)}
    free = jopt.lbfgs(line_search="strong_wolfe")
    tx = jopt.lbfgs(line_search="strong_wolfe", groups={"still": jopt.group("^b$", freeze=True)})
    updates, state = tx.update(jax.grad(f)(params), tx.init(params), params, value_fn=f)
    assert list(state["lbfgs"]["s"]) == ["a"]
    assert not jnp.any(updates["b"])
    alone = {"a": params["a"]}
    want, _ = free.update(
        {"a": jax.grad(f)(params)["a"]}, free.init(alone), alone, value_fn=lambda p: f(params | p)
    )
    np.testing.assert_array_equal(updates["a"], want["a"])


def first_step(g):
    """−min(1, 1/‖g‖₁)·g over both leaves, as a float64 oracle."""
    both = np.concatenate([np.ravel(v).astype(np.float64) for v in g.values()])
    return {k: -min(1, 1 / np.sum(np.abs(both))) * np.asarray(v, np.float64) for k, v in g.items()}


@pytest.mark.parametrize("left", [{"a"}, {"b"}], ids=str)
def test_with_other_leaves_it_starts_anew(left):
    tx = jopt.lbfgs(max_iter=1, history_size=4)
    params = {"a": jnp.float32([1.0, 2.0]), "b": jnp.float32([[3.0], [4.0]])}
    state = tx.init(params)

    def update(grads, state):
        return tx.update({"a": None, "b": None} | grads, state, params)

    grads = [{k: p * (i + 1) for k, p in params.items()} for i in range(4)]
    for g in grads[:2]:
        _, state = update(g, state)
    fewer = {k: grads[2][k] for k in left}
    (gone,) = {"a", "b"} - left
    updates, later = update(fewer, state)
    np.testing.assert_allclose(updates[min(left)], first_step(fewer)[min(left)], rtol=1e-6)
    assert not jnp.any(updates[gone])
    for slot in ("s", "y", "d", "prev_grad"):
        np.testing.assert_array_equal(later["lbfgs"][slot][gone], state["lbfgs"][slot][gone])
    updates, _ = update(grads[3], later)
    for k, want in first_step(grads[3]).items():
        np.testing.assert_allclose(updates[k], want, rtol=1e-6)


def test_an_added_leaf_makes_it_start_anew():
    tx = jopt.lbfgs(max_iter=1, history_size=4)
    old = {"a": jnp.float32([1.0, 2.0])}
    state = tx.init(old)
    for i in range(3):
        _, state = tx.update({"a": old["a"] * (i + 1)}, state, old)
    new = {**old, "b": jnp.float32(3.0)}
    g = {"a": old["a"], "b": jnp.float32(0.5)}
    updates, _ = tx.update(g, jopt.extend(tx, state, new), new)
    for k, want in first_step(g).items():
        np.testing.assert_allclose(updates[k], want, rtol=1e-6)


def test_the_history_is_written_in_place():
    # Donated, the state's buffers come back; no second history is ever held.
    tx = jopt.lbfgs(max_iter=1, history_size=10)
    params = {"w": jax.ShapeDtypeStruct((64, 256), jnp.float32)}

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state

    shapes = params, jax.eval_shape(tx.init, params), params
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    one = 4 * 64 * 256
    assert memory.alias_size_in_bytes >= 23 * one  # two histories, d, prev_grad, the parameters
    assert memory.temp_size_in_bytes < 4 * one


BAD = (
    ({"line_search": "armijo"}, "there is no such line search\n  expected: 'strong_wolfe' or None"),
    (
        {"max_iter": 0},
        "max_iter is a number of iterations\n  expected: an int of at least 1\n  found:    0",
    ),
    ({"max_eval": 2.5}, "max_eval is a number of evaluations"),
    ({"history_size": True}, "history_size is a number of pairs"),
    ({"learning_rate": -1.0}, "learning_rate is out of range"),
    ({"tolerance_grad": -1.0}, "tolerance_grad is out of range"),
    (
        {"groups": {"slow": jopt.group("a", learning_rate=0.1)}},
        "group 'slow' is not frozen, and all parameters share one direction",
    ),
)


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda x: str(x)[:30])
def test_errors(arguments, message):
    with pytest.raises(jopt.ConfigError) as error:
        jopt.lbfgs(**arguments)
    assert str(error.value).startswith(f"lbfgs: {message}")


def test_without_the_function_it_says_so():
    tx, p = jopt.lbfgs(), {"w": jnp.ones(2)}
    with pytest.raises(jopt.ConfigError, match="lbfgs: update needs value_fn="):
        tx.update(p, tx.init(p), p)
