"""Sophia: the paper's lines, optax live, and its estimates of the Hessian's diagonal."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

import jopt
from tests.wrappers.runs import START, close, grad, run

STEPS = 50


def given(p, t):
    """Second derivatives of no function in particular, below 0 at times."""
    return jax.tree.map(lambda x: jnp.cos(2 * x) + 0.3 + 0.1 * t, p)


def by_hand(*, k, rho=1.0, corrected=False, factor=1.0, curve=None):
    rate, b1, b2, gamma, eps, decay = 0.05, 0.965, 0.9, 0.5, 1e-8, 0.1
    p = {n: x.copy() for n, x in START.items()}
    m, h = dict.fromkeys(p, 0.0), dict.fromkeys(p, 0.0)
    for t in range(STEPS):
        for n in p:
            c = (curve or (lambda x, t: np.cos(2 * x) + 0.3 + 0.1 * t))(p[n], t)
            h[n] = b2 * h[n] + (1 - b2) * factor * c if t % k == 0 else h[n]
            m[n] = b1 * m[n] + (1 - b1) * grad(p[n], t)
            d = m[n] / (1 - b1 ** (t + 1) if corrected else 1) / np.maximum(gamma * h[n], eps)
            d = d if rho is None else np.clip(d, -rho, rho)
            p[n] = p[n] - rate * decay * p[n] - rate * d
    return p


NUMBERS = {"b2": 0.9, "gamma": 0.5, "weight_decay": 0.1}


def of_given(k=3, **more):
    numbers = {**NUMBERS, **more}
    return jopt.sophia(0.05, estimator="given", update_interval=k, **numbers)


@pytest.mark.parametrize(("k", "rho", "corrected"), [(3, 1.0, False), (1, 0.1, True)])
def test_the_papers_lines(k, rho, corrected, x64):
    tx = of_given(k, clip_threshold=rho, bias_correction=corrected)
    close(run(tx, STEPS, hessian=given)[-1][0], by_hand(k=k, rho=rho, corrected=corrected))


def test_optax_whose_estimate_is_of_the_step_before(x64):
    own = optax.GradientTransformationExtraArgs(lambda p: (), lambda u, s, *, params, h: (h, s))
    theirs = optax.contrib.sophia(
        0.05, b2=0.9, gamma=0.5, weight_decay=0.1, update_interval=1, hessian_diagonal_fn=own
    )
    tx = of_given(1, bias_correction=True)
    params = [jax.tree.map(jnp.asarray, START)] * 2
    states = [tx.init(params[0]), theirs.init(params[1])]

    @jax.jit
    def step(params, states, t):
        after = []
        for p, s, one, extra in zip(
            params,
            states,
            (tx, theirs),
            ({"hessian": _scaled(t - 1)}, {"h": _scaled(t)}),
            strict=True,
        ):
            updates, s = one.update(jax.tree.map(lambda x: grad(x, t), p), s, p, **extra)
            after.append((jax.tree.map(jnp.add, p, updates), s))
        return [p for p, _ in after], [s for _, s in after]

    with jax.numpy_dtype_promotion("standard"):
        for t in range(STEPS):
            params, states = step(params, states, float(t))
    close(params[0], params[1])


def _scaled(t):
    return jax.tree.map(lambda x: jnp.where(t < 0, 0.0, 1.0 + jnp.sin(t + x)), START)


def test_the_estimate_by_signs_is_exact_where_the_hessian_is_diagonal(x64):
    loss = lambda p, t: lambda q: sum(jnp.sum(x**4) for x in jax.tree.leaves(q)) / 12  # noqa: E731
    groups = {"b": jopt.group("^b$", weight_decay=0.1), "rest": jopt.group("w", b1=0.965)}
    tx = jopt.sophia(0.05, update_interval=3, groups=groups, **{**NUMBERS, "weight_decay": 0.0})
    found = run(tx, STEPS, value_fn=loss)[-1][0]
    want = by_hand(k=3, curve=lambda x, t: x**2)
    close(found["b"], want["b"])


def mixed(p):
    """A loss whose Hessian is anything but diagonal."""
    flat = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(p)])
    return jnp.sum(jnp.sin(jnp.outer(flat, flat))) / 4


def test_an_estimate_is_that_of_one_vector_of_signs_whatever_the_groups():
    params = {"a": jnp.array([0.3, -0.5]), "b": jnp.array([0.7, 0.2, -0.1])}
    grads = jax.grad(mixed)(params)
    whole, parted = (
        jopt.sophia(b2=0.0, groups=groups)
        for groups in (None, {"b": jopt.group("b", weight_decay=0.0)})
    )

    @jax.jit
    def diagonals(key):
        states = [
            tx.update(grads, tx.init(params), params, value_fn=mixed, key=key)[1]
            for tx in (whole, parted)
        ]
        return [state["sophia"]["nu"] for state in states]

    flat, back = jax.flatten_util.ravel_pytree(params)
    hessian = np.asarray(jax.hessian(lambda x: mixed(back(x)))(flat))
    drawn = set()
    for seed in range(12):
        found, same = diagonals(jax.random.key(seed))
        jax.tree.map(np.testing.assert_array_equal, found, same)
        own = np.concatenate([found["a"], found["b"]])
        every = [np.array(u) for u in itertools.product([1, -1], repeat=5) if u[0] == 1]
        [u] = [u for u in every if np.allclose(own, u * (hessian @ u), atol=1e-5)]
        drawn.add(tuple(u))
    assert len(drawn) > 4


def test_squares_of_the_gradient_on_drawn_labels():
    x = jnp.linspace(-1, 1, 8)[:, None] * jnp.ones((8, 3))

    def sampled(p, key):
        logits = x @ p["w"]
        labels = jax.lax.stop_gradient(jax.random.categorical(key, logits))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4)}
    key = jax.random.key(3)
    tx = jopt.sophia(b2=0.5, estimator="gauss_newton_bartlett", batch_size=8.0, maximize=True)
    step = jax.jit(lambda k: tx.update(params, tx.init(params), params, sampled_fn=sampled, key=k))
    found = step(key)[1]["sophia"]["nu"]["w"]
    np.testing.assert_allclose(found, 0.5 * 8 * jax.grad(sampled)(params, key)["w"] ** 2, rtol=1e-5)
    assert not np.array_equal(found, step(jax.random.key(4))[1]["sophia"]["nu"]["w"])


def test_ascending_a_cap_is_descending_a_cup():
    cup = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * p["w"] ** 2) / 2  # noqa: E731
    params, steps = {"w": jnp.array([0.5, -0.5])}, []
    for sign, up in ((1, False), (-1, True)):
        f = lambda p, sign=sign: sign * cup(p)  # noqa: E731
        tx = jopt.sophia(0.1, b2=0.0, gamma=1.0, maximize=up)
        step = jax.jit(lambda g, s, p, tx=tx, f=f: tx.update(g, s, p, value_fn=f)[0])
        steps.append(step(jax.grad(f)(params), tx.init(params), params))
    jax.tree.map(np.testing.assert_array_equal, *steps)


def test_what_is_known_of_no_leaf_and_what_passes_routes_and_frozen_groups():
    params = {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(1)}
    tx = jopt.accumulate(
        jopt.route(
            jopt.sgd(0.1),
            own=(
                "a|b",
                jopt.sophia(estimator="given", b2=0.0, groups={"b": jopt.group("b", freeze=True)}),
            ),
        ),
        every=1,
    )
    node = lambda s: s["accumulate"]["inner"]["route"]["inner"]["sophia"]["nu"]  # noqa: E731
    hessian = jax.tree.map(lambda x: 3 * x, params)
    step = jax.jit(lambda p, s, h: tx.update(p, s, p, hessian=h))
    _, state = step(params, tx.init(params), hessian)
    assert node(state).keys() == {"a"}
    np.testing.assert_array_equal(node(state)["a"], [3.0, 3.0])
    late = jopt.sophia(estimator="given", b2=0.5, update_interval=1, skips=True)
    _, state = late.update(params, late.init(params), params, hessian={**hessian, "a": None})
    assert [float(x[0]) for x in state["sophia"]["nu"].values()] == [0.0, 1.5, 1.5]
    with pytest.raises(jopt.TreeError, match="second derivatives of hessian= have another"):
        late.update(params, state, params, hessian={"a": params["a"]})
    with pytest.raises(jopt.ConfigError, match="update needs hessian="):
        late.update(params, state, params)


def test_what_does_not_go_together():
    for wrong in ({"estimator": "exact"}, {"batch_size": 8.0}, {"update_interval": 0}):
        with pytest.raises(jopt.ConfigError):
            jopt.sophia(**wrong)
    with pytest.raises(jopt.ConfigError, match="batch_size"):
        jopt.sophia(estimator="gauss_newton_bartlett")
