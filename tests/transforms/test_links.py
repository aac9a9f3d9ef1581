"""The small links of a chain, against optax where it is right, against a plain loop elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

RNG = np.random.default_rng(0)
SHAPES = {"bias": (3,), "conv": (2, 3, 4, 5), "heads": (4, 2, 3), "matrix": (4, 3), "one": ()}
PARAMS = {k: RNG.normal(size=s) for k, s in SHAPES.items()}
GRADS = [{k: RNG.normal(size=s) for k, s in SHAPES.items()} for _ in range(4)]


def fall(count):
    """A schedule in float64, which any program computes alike to its last bits but one."""
    return 1.0 / (1.0 + 0.3 * count.astype("float64"))


SAME = {
    "scale": (jopt.scale(-0.3), optax.scale(-0.3)),
    "scale by schedule": (jopt.scale(fall), optax.scale_by_schedule(fall)),
    "trace": (jopt.trace(0.9), optax.trace(0.9)),
    "nesterov": (jopt.trace(0.9, nesterov=True), optax.trace(0.9, nesterov=True)),
    "mean": (jopt.average_updates(0.9), optax.ema(0.9)),
    "biased mean": (jopt.average_updates(0.9, debias=False), optax.ema(0.9, debias=False)),
    "agc": (jopt.adaptive_grad_clip(0.5, 0.1), optax.adaptive_grad_clip(0.5, 0.1)),
    "block rms": (jopt.clip_by_block_rms(0.7), optax.clip_by_block_rms(0.7)),
    "unit": (jopt.normalize_by_update_norm(-2.0), optax.normalize_by_update_norm(-2.0)),
    "nonnegative": (jopt.keep_params_nonnegative(), optax.keep_params_nonnegative()),
    "identity": (jopt.identity(), optax.identity()),
    "zero": (jopt.set_to_zero(), optax.set_to_zero()),
    "stateless": (
        jopt.stateless(lambda u, p: jax.tree.map(lambda a, b: a * b, u, p)),
        optax.stateless_with_tree_map(lambda u, p: u * p),
    ),
    "by leaf": (
        jopt.stateless(lambda u, p: u * p, by_leaf=True),
        optax.stateless_with_tree_map(lambda u, p: u * p),
    ),
}


def run(tx, params, grads):
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
    return updates


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SAME)
def test_same_as_optax(name):
    mine, other = SAME[name]
    params = {k: np.abs(p) for k, p in PARAMS.items()} if name == "nonnegative" else PARAMS
    found = run(mine, params, GRADS)
    with jax.numpy_dtype_promotion("standard"):
        expected = run(other, params, GRADS)
    for leaf in SHAPES:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-13, atol=1e-15)


OPTAXS = optax.centralize()


@pytest.mark.usefixtures("x64")
def test_centralize_takes_the_mean_of_what_goes_into_each_output():
    (g,) = GRADS[:1]
    found = run(jopt.centralize(), PARAMS, [g])
    expected = {
        "bias": g["bias"],
        "one": g["one"],
        "matrix": g["matrix"] - g["matrix"].mean(0),
        "heads": g["heads"] - g["heads"].mean(0),
        "conv": g["conv"] - g["conv"].mean((0, 1, 2)),
    }
    for leaf, x in expected.items():
        np.testing.assert_allclose(found[leaf], x, rtol=1e-13)
    matrix = {"matrix": g["matrix"]}  # torch's layout, which optax's has, too
    found, expected = (run(t, matrix, [matrix]) for t in (jopt.centralize(axis=1), OPTAXS))
    np.testing.assert_allclose(found["matrix"], expected["matrix"], rtol=1e-13)


def test_axes_that_are_none_or_not_there():
    for axis in (1.0, (), (0, 0), "0"):
        with pytest.raises(jopt.ConfigError, match="axis is the axis"):
            jopt.centralize(axis=axis)
    tx, grads = jopt.clip_by_unit_norm(1.0, axis=2), {"w": jnp.ones((2, 2))}
    with pytest.raises(jopt.ConfigError, match="does not have the axes"):
        tx.update(grads, tx.init(grads))


TINY, HUGE = 3e-30, 3e30
OUT = {
    "agc": (jopt.adaptive_grad_clip(0.5, 0.0), lambda g: g * 0.5 / np.linalg.norm(g)),
    "unit clip": (jopt.clip_by_unit_norm(1e-31), lambda g: g * 1e-31 / np.linalg.norm(g)),
    "rms": (jopt.clip_by_block_rms(1e-31), lambda g: g * 1e-31 / np.sqrt(np.mean(g**2))),
    "unit": (jopt.normalize_by_update_norm(1.0, 0.0), lambda g: g / np.linalg.norm(g)),
}


@pytest.mark.parametrize("size", [TINY, HUGE])
@pytest.mark.parametrize("name", OUT)
def test_norms_whose_squares_are_out_of_range(name, size):
    tx, formula = OUT[name]
    g = np.array([1.0, -2.0, 0.5]) * size
    params = {"w": jnp.array([size, 0.0, 0.0]) if name == "agc" else jnp.ones(3)}
    found = tx.update({"w": jnp.asarray(g, jnp.float32)}, tx.init(params), params)[0]["w"]
    expected = formula(g) * (size if name == "agc" else 1)
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=2e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "tx",
    [
        jopt.adaptive_grad_clip(0.1),
        jopt.clip_by_unit_norm(0.5),
        jopt.clip_by_block_rms(0.5),
        jopt.normalize_by_update_norm(),
        jopt.centralize(),
        jopt.average_updates(0.9),
    ],
    ids=repr,
)
def test_a_complex_number_is_a_pair(tx):
    # Turned by a phase, it is as long as before; and reals are complex numbers, too.
    g, p = GRADS[0]["matrix"], PARAMS["matrix"]
    phase = np.exp(0.7j)
    real = np.asarray(tx.update({"w": g}, tx.init({"w": p}), {"w": p})[0]["w"])
    turned = {"w": g * phase}, tx.init({"w": p * phase}), {"w": p * phase}
    np.testing.assert_allclose(tx.update(*turned)[0]["w"], real * phase, rtol=1e-12)


def test_nan_becomes_zero_and_infinity_stays():
    g = {"w": jnp.array([jnp.nan, jnp.inf, -2.0]), "z": jnp.array(complex("nan+3j"))}
    found = jopt.zero_nans().update(g, jopt.zero_nans().init(g))[0]
    assert found["w"].tolist() == [0.0, float("inf"), -2.0]
    assert complex(found["z"]) == 3j


def test_nonnegative_parameters_in_half_precision_and_no_complex_ones():
    tx = jopt.chain(jopt.sgd(1.0), jopt.keep_params_nonnegative())
    params = {"w": jnp.array([0.1, 1.0, -1.0], jnp.bfloat16)}
    grads = {"w": jnp.array([0.3, 0.25, -0.5], jnp.bfloat16)}
    updates, _ = tx.update(grads, tx.init(params), params)
    assert jopt.apply_updates(params, updates)["w"].tolist() == [0.0, 0.75, 0.0]
    with pytest.raises(jopt.TreeError, match="no rule for complex"):
        tx.init({"w": jnp.ones(1, jnp.complex64)})


def test_leaves_without_gradient_count_nowhere():
    tx = jopt.chain(jopt.normalize_by_update_norm(1.0, 0.0), jopt.sgd(1.0, groups=FROZEN))
    params = {"a": jnp.ones(1), "b": jnp.ones(1), "c": jnp.ones(1)}
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0]), "c": None}
    updates, _ = tx.update(grads, tx.init(params), params)
    assert float(updates["a"][0]) == -1.0
    assert float(updates["b"][0]) == 0.0


FROZEN = {"frozen": jopt.group("b", freeze=True)}


def test_what_a_stateless_function_may_do():
    params = {"a": jnp.ones(2), "b": jnp.ones(1)}
    cases = [(3, "no function"), (lambda u: {"a": u["a"]}, "structure"), (_longer, "the shape")]
    for function, text in cases:
        with pytest.raises(jopt.JoptError, match=text):
            jopt.stateless(function).update(params, {"stateless": {}}, params)
    seen = []
    tx = jopt.chain(jopt.stateless(lambda u: seen.append(u) or u), jopt.sgd(1.0, groups=FROZEN))
    tx.update(params, tx.init(params), params)
    assert seen[0]["b"] is None


def _longer(updates):
    return jax.tree.map(lambda x: jnp.concatenate([x, x]), updates)
