"""AdaHessian: the paper's lines, the averages over blocks, and its own estimates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.wrappers.runs import START, close, grad, run

STEPS = 40
NUMBERS = {"b2": 0.9, "weight_decay": 0.1, "eps": 1e-3}


def second(x, t):
    """A second derivative of no function in particular, below 0 at times."""
    return np.cos(2 * x) + 0.3 + 0.1 * t


def given(p, t):
    return jax.tree.map(lambda x: jnp.cos(2 * x) + 0.3 + 0.1 * t, p)


def by_hand(*, k, power, b1=0.9, curve=second, over=None):
    rate, b2, eps, decay = 0.05, *(NUMBERS[n] for n in ("b2", "eps", "weight_decay"))
    p = {n: x.copy() for n, x in START.items()}
    m, v, seen = dict.fromkeys(p, 0.0), dict.fromkeys(p, 0.0), 0
    for t in range(STEPS):
        seen += t % k == 0
        for n in p:
            if t % k == 0:
                c = np.abs(curve(p[n], t))
                c = c if over is None else np.mean(c, axis=over[n], keepdims=True)
                v[n] = b2 * v[n] + (1 - b2) * c**2
            m[n] = b1 * m[n] + (1 - b1) * grad(p[n], t)
            spread = np.sqrt(v[n]) ** power / np.sqrt(1 - b2**seen) ** power + eps
            d = m[n] / (1 - b1 ** (t + 1)) / spread
            p[n] = p[n] - rate * decay * p[n] - rate * d
    return p


@pytest.mark.parametrize(("k", "power"), [(3, 0.7), pytest.param(1, 1.0, marks=pytest.mark.slow)])
def test_the_papers_lines(k, power, x64):
    tx = jopt.adahessian(0.05, estimator="given", update_interval=k, hessian_power=power, **NUMBERS)
    close(run(tx, STEPS, hessian=given)[-1][0], by_hand(k=k, power=power))


@pytest.mark.slow
def test_averages_are_over_blocks(x64):
    tx = jopt.adahessian(0.05, estimator="given", average=True, axes={"w": "row ..."}, **NUMBERS)
    want = by_hand(k=1, power=1.0, over={"w": 1, "b": None})
    close(run(tx, STEPS, hessian=given)[-1][0], want)


@pytest.mark.slow
def test_where_the_hessian_is_diagonal_the_estimate_is_exact(x64):
    loss = lambda p, t: lambda q: sum(jnp.sum(x**4) for x in jax.tree.leaves(q)) / 12  # noqa: E731
    groups = {"b": jopt.group("^b$", eps=1e-3), "rest": jopt.group("w", b1=0.5)}
    tx = jopt.adahessian(0.05, update_interval=2, groups=groups, **{**NUMBERS, "eps": 1.0})
    found = run(tx, STEPS, value_fn=loss)[-1][0]
    close(found["b"], by_hand(k=2, power=1.0, curve=lambda x, t: x**2)["b"])


@pytest.mark.slow
def test_an_estimate_is_that_of_one_vector_of_signs():
    hessian = jnp.arange(9.0).reshape(3, 3) + jnp.arange(9.0).reshape(3, 3).T
    loss = lambda p: p["w"] @ hessian @ p["w"] / 2  # noqa: E731
    params = {"w": jnp.ones(3)}
    tx = jopt.adahessian(b2=0.0)
    grads, state = jax.grad(loss)(params), tx.init(params)
    step = jax.jit(lambda k: tx.update(grads, state, params, value_fn=loss, key=k))
    every = [np.array(u) for u in itertools.product([1.0, -1.0], repeat=3)]
    drawn = set()
    for seed in range(8):
        found = step(jax.random.key(seed))[1]["adahessian"]["nu"]["w"]
        drawn.add(next(tuple(u * u[0]) for u in every if np.allclose(found, (hessian @ u) ** 2)))
    assert len(drawn) > 1


def test_what_there_is_not():
    for wrong in ({"estimator": "gauss_newton_bartlett"}, {"average": 1}, {"hessian_power": 0.0}):
        with pytest.raises(jopt.ConfigError, match=next(iter(wrong))):
            jopt.adahessian(**wrong)
