"""Extra arguments reach a part as it sees the parameters: routed, frozen, accumulated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

PARAMS = {"a": jnp.zeros(2), "b": jnp.zeros(3)}
STILL = {"b": jopt.group("^b", freeze=True)}


def value_fn(p):
    mixed = 0.1 * jnp.sum(p["a"]) * (1 + jnp.sum(p["b"]))
    return jnp.sum((p["a"] - 1) ** 2) + jnp.sum((p["b"] - 2) ** 4) + mixed


def run(tx, steps=2):
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        value, grads = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        updates, state = tx.update(grads, state, params, **extra)
        params = jopt.apply_updates(params, updates)
    return params


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_a_routed_line_search_sees_the_function_of_its_leaves():
    search = jopt.lbfgs(0.01, line_search="strong_wolfe")
    frozen = jopt.lbfgs(0.01, line_search="strong_wolfe", groups=STILL)
    same(run(jopt.route(jopt.sgd(0.0), a=("^a", search))), run(frozen))
    same(run(jopt.route(search, b=("^b", jopt.sgd(0.0)))), run(frozen))


@pytest.mark.parametrize("place", ["route", "frozen"])
def test_a_foreign_one_does_too(place):
    search = optax.scale_by_backtracking_linesearch(10)
    tx = {
        "route": jopt.route(jopt.sgd(0.0), a=("^a", jopt.chain(jopt.sgd(1.0), search))),
        "frozen": jopt.chain(jopt.sgd(1.0, groups=STILL), search),
    }[place]

    def alone(p):
        return value_fn({**PARAMS, "a": p})

    with jax.numpy_dtype_promotion("standard"):
        found = run(tx)
        theirs = optax.chain(optax.sgd(1.0), search)
        p, state = PARAMS["a"], theirs.init(PARAMS["a"])
        for _ in range(2):
            value, g = jax.value_and_grad(alone)(p)
            updates, state = theirs.update(g, state, p, value=value, grad=g, value_fn=alone)
            p = optax.apply_updates(p, updates)
    same(found, {**PARAMS, "a": p})


def test_a_gradient_of_a_round_is_its_mean():
    seen = []

    def update(updates, state, params=None, *, grad, **extra):
        seen.append(grad)
        return updates, state

    tx = jopt.accumulate(optax.GradientTransformationExtraArgs(lambda p: {}, update), every=2)
    state = tx.init(PARAMS)
    for k in (1.0, 4.0):
        g = jax.tree.map(lambda p, k=k: jnp.full_like(p, k), PARAMS)
        with jax.disable_jit():
            updates, state = tx.update(g, state, PARAMS, grad=g)
    assert [x.shape for x in jax.tree.leaves(seen[-1])] == [(2,), (3,)]
    same(updates, jax.tree.map(lambda p: jnp.full_like(p, 2.5), PARAMS))


def test_a_gradient_that_does_not_fit_is_one_clear_error():
    tx = jopt.route(jopt.sgd(0.0), a=("^a", jopt.sgd(1.0)))
    with pytest.raises(jopt.TreeError, match="the gradients of grad= have another structure"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, grad={"a": PARAMS["a"]})


FOREIGN = {
    "MultiSteps": (lambda: optax.MultiSteps(optax.sgd(1.0), 4), 5),
    "its transformation": (
        lambda: optax.chain(
            optax.identity(), optax.MultiSteps(optax.sgd(1.0), 4).gradient_transformation()
        ),
        5,
    ),
    "apply_if_finite": (lambda: optax.apply_if_finite(optax.sgd(1.0), 9), 19),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_averages_see_the_real_steps_of_foreign_wrappers(name):
    make, steps = FOREIGN[name]
    tx = jopt.ema(make(), decay=0.75)
    params = {"w": jnp.float32(0.0)}
    state = tx.init(params)
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    with jax.numpy_dtype_promotion("standard"):
        for i in range(20):
            bad = name == "apply_if_finite" and i == 7
            params, state = step({"w": jnp.float32(np.nan if bad else 1.0)}, state, params)
    p, a = 0.0, None
    for _ in range(steps):
        p -= 1.0
        a = p if a is None else a + 0.25 * (p - a)
    assert int(state["ema"]["count"]) == steps
    np.testing.assert_allclose(jopt.eval_params(state, params)["w"], a, rtol=1e-6)
