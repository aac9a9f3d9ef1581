"""Estimates of the Hessian's diagonal as a transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

H = np.array([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.0], [0.5, 0.0, -1.0]], np.float32)
PARAMS = {"a": jnp.array([0.3, -0.5]), "z": jnp.asarray(0.2 + 0.1j)}


def loss(p):
    """A quadratic in a and the real part of z; of the other part a square."""
    x = jnp.concatenate([p["a"], jnp.real(p["z"])[None]])
    return x @ H @ x / 2 + 2 * jnp.imag(p["z"]) ** 2


def estimates(tx, keys, **extra):
    def one(key):
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS, key=key, **extra)[0]

    found = jax.jit(jax.vmap(one))(keys)
    return np.concatenate(
        [np.asarray(found["a"]), np.stack([found["z"].real, found["z"].imag], axis=1)], axis=1
    )


@pytest.mark.parametrize("along", ["signs", pytest.param("normal", marks=pytest.mark.slow)])
def test_mean_and_variance_are_as_the_docstring_says(along):
    keys = jax.random.split(jax.random.key(3), 4000)
    found = estimates(jopt.hessian_diagonal(along=along), keys, value_fn=loss)
    whole = np.zeros((4, 4))
    whole[:3, :3], whole[3, 3] = H, 4.0
    diagonal = np.diag(whole)
    variance = np.sum(whole**2, axis=1) + diagonal**2 * (1 if along == "normal" else -1)
    # Six deviations of the mean; and of the variance, whose own is at most √(60/4000) of it.
    assert np.all(np.abs(found.mean(0) - diagonal) <= 6 * np.sqrt(variance / 4000) + 1e-5)
    np.testing.assert_allclose(found.var(0), variance, rtol=0.75, atol=1e-10)


@pytest.mark.slow
def test_the_mean_of_some_draws_and_what_a_state_draws():
    tx = jopt.hessian_diagonal(samples=3)
    key = jax.random.key(1)
    whole = estimates(tx, key[None], value_fn=loss)[0]
    parts = estimates(jopt.hessian_diagonal(), jax.random.split(key, 3), value_fn=loss)
    np.testing.assert_allclose(whole, parts.mean(0), rtol=1e-5)
    state = tx.init(PARAMS)
    first, after = tx.update(PARAMS, state, PARAMS, value_fn=loss)
    again, _ = tx.update(PARAMS, state, PARAMS, value_fn=loss)
    other, _ = tx.update(PARAMS, after, PARAMS, value_fn=loss)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["a"], other["a"])


@pytest.mark.slow
def test_squares_on_drawn_labels_and_what_sophia_makes_of_them():
    def sampled(p, key):
        return jnp.sum(jnp.sin(p["a"]) * jax.random.normal(key, (2,))) + jnp.abs(p["z"]) ** 2

    key = jax.random.key(5)
    kind = {"estimator": "gauss_newton_bartlett", "batch_size": 8.0}
    tx = jopt.hessian_diagonal(**kind)
    extra = {"sampled_fn": sampled, "key": key}
    found, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, **extra)
    np.testing.assert_allclose(found["a"], 8 * jax.grad(sampled)(PARAMS, key)["a"] ** 2, rtol=1e-6)
    given, own = jopt.sophia(estimator="given"), jopt.sophia(**kind)
    _, one = given.update(PARAMS, given.init(PARAMS), PARAMS, hessian=found)
    _, two = own.update(PARAMS, own.init(PARAMS), PARAMS, **extra)
    for name, nu in one["sophia"]["nu"].items():
        np.testing.assert_allclose(nu, two["sophia"]["nu"][name], rtol=1e-6)


def test_what_does_not_go_together():
    for wrong, told in (
        ({"estimator": "given"}, "estimator is none"),
        ({"along": "ones"}, "along is none"),
        ({"samples": 0}, "samples"),
        ({"batch_size": 8.0}, "batch_size belongs"),
        ({"estimator": "gauss_newton_bartlett"}, "batch_size belongs"),
    ):
        with pytest.raises(jopt.ConfigError, match=told):
            jopt.hessian_diagonal(**wrong)
