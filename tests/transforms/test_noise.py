"""Noise: its size, that it is data, and the private mean of single gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

GRADS = {"a": jnp.zeros((30, 100)), "b": {"c": jnp.zeros(3000, jnp.complex64)}}


def noises(tx, n, grads=GRADS, state=None):
    state = tx.init(grads) if state is None else state
    out, update = [], jax.jit(tx.update)
    for _ in range(n):
        updates, state = update(grads, state, grads)
        out.append(updates)
    return out, state


def test_the_variance_falls_as_the_paper_says():
    (first, second), _ = noises(jopt.add_noise(0.04, 0.5, seed=3), 2)
    for x, variance in ((first["a"], 0.04), (second["a"], 0.04 / 2**0.5)):
        assert abs(float(x.mean())) < 0.02
        np.testing.assert_allclose(float(x.var()), variance, rtol=0.1)
    z = first["b"]["c"]
    np.testing.assert_allclose([z.real.var(), z.imag.var()], 0.04, rtol=0.1)
    assert abs(np.corrcoef(first["a"].ravel(), second["a"].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(first["a"].ravel(), z.real)[0, 1]) < 0.06


def test_the_noise_is_data():
    tx = jopt.add_noise(0.01, seed=3)
    whole, _ = noises(tx, 3)
    _, state = noises(tx, 2)
    state = jopt.from_bytes(None, jopt.to_bytes(state))
    # Built with another seed: the stream goes on, as its key is in the state.
    (last,), _ = noises(jopt.add_noise(0.01, seed=9), 1, state=state)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), last, whole[2]))
    others = {"z": jnp.zeros(5), **GRADS}
    assert (noises(tx, 1, others)[0][0]["a"] == whole[0]["a"]).all()
    by_group = jopt.add_noise(0.01, seed=3, groups={"c": jopt.group("c")})
    assert (noises(by_group, 1)[0][0]["a"] == whole[0]["a"]).all()
    with pytest.raises(jopt.ConfigError, match="seed is a number of"):
        jopt.add_noise(0.01, seed=0.5)


def test_the_noise_of_a_sharded_gradient_is_that_of_the_whole():
    mesh = jax.make_mesh((8,), ("x",))
    tx, g = jopt.add_noise(0.01), {"a": jnp.zeros((8, 4))}
    split = jax.device_put(g, jax.NamedSharding(mesh, jax.P("x")))
    one, other = (jax.jit(tx.update)(x, tx.init(x))[0]["a"] for x in (g, split))
    assert (one == other).all()
    assert other.sharding.is_equivalent_to(split["a"].sharding, 2)


RNG = np.random.default_rng(1)
PARAMS = {"v": np.zeros(3), "w": np.zeros((2, 3)), "x": np.zeros(())}
BATCH = {k: RNG.normal(size=(5, *p.shape)) for k, p in PARAMS.items()}
PRIVATE = {"l2_norm_clip": 1.5, "noise_multiplier": 0.0}


def private(batch=BATCH, params=PARAMS, **how):
    tx = jopt.differentially_private(**{**PRIVATE, **how})
    return jax.jit(tx.update)(batch, tx.init(params), params)[0]


@pytest.mark.usefixtures("x64")
def test_the_private_mean_is_optaxs_but_for_the_noise():
    tx = optax.contrib.differentially_private_aggregate(1.5, 0.0, key=0)
    expected, _ = tx.update(BATCH, tx.init(PARAMS))
    found = private()
    for k in PARAMS:
        np.testing.assert_allclose(found[k], expected[k], rtol=1e-13)
        np.testing.assert_allclose(private(batch_size=8)[k], expected[k] * 5 / 8, rtol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("by_leaf", ["equal", "size"])
def test_leaves_by_their_own_norms(by_leaf):
    leaves = jax.tree.leaves(BATCH)
    sums, _ = optax.per_example_layer_norm_clip(leaves, 1.5, uniform=by_leaf == "equal")
    found = private(by_leaf=by_leaf)
    for x, total in zip(jax.tree.leaves(found), sums, strict=True):
        np.testing.assert_allclose(x, total / 5, rtol=1e-13)


def test_one_example_never_counts_for_more_than_the_bound():
    params, rest = {"w": jnp.zeros(2)}, [[3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0]]
    for bad in (jnp.inf, jnp.nan):
        grads = {"w": jnp.array([*rest, [bad, 1.0]])}
        found = private(grads, params, l2_norm_clip=1.0, batch_size=1)["w"]
        np.testing.assert_allclose(found, [0.6, 0.8], rtol=1e-6)
    small = private({"w": jnp.array([rest[1]])}, params, l2_norm_clip=1e-30)["w"]
    np.testing.assert_allclose(np.asarray(small, float), [6e-31, 8e-31], rtol=1e-6)


def test_the_noise_of_the_private_mean():
    params = {"w": jnp.zeros(4000), "frozen": jnp.zeros(4000)}
    dp = jopt.differentially_private(2.0, 3.0, seed=1, batch_size=4)
    tx = jopt.chain(dp, jopt.sgd(1.0, groups={"f": jopt.group("frozen", freeze=True)}))
    grads = {"w": jnp.zeros((2, 4000)), "frozen": jnp.full((2, 4000), 1e9)}
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    np.testing.assert_allclose(float(updates["w"].std()), 2.0 * 3.0 / 4, rtol=0.05)
    assert not updates["frozen"].any()


def test_gradients_without_examples_and_unequal_numbers_of_them():
    with pytest.raises(jopt.TreeError, match="another shape"):
        private({k: x[0] for k, x in BATCH.items()})
    with pytest.raises(jopt.ConfigError, match="different numbers of examples"):
        private({**BATCH, "v": BATCH["v"][:2]})
    with pytest.raises(jopt.ConfigError, match="no such share"):
        jopt.differentially_private(1.0, 1.0, by_leaf=True)


def test_noisy_sgd_is_sgd_behind_the_noise():
    grads = {"a": jnp.ones(64), "c": jnp.ones((2, 3))}
    whole = jopt.noisy_sgd(0.1, 0.04, seed=3)
    chained = jopt.chain(jopt.add_noise(0.04, seed=3), jopt.sgd(0.1))
    ends = []
    for tx in (whole, chained):
        state = tx.init(grads)
        for _ in range(2):
            updates, state = tx.update(grads, state, grads)
        ends.append(updates)
    assert all((ends[0][k] == ends[1][k]).all() for k in grads)


@pytest.mark.parametrize("made", [jopt.noisy_sgd, lambda **on: jopt.add_noise(0.1, **on)])
def test_optaxs_key_is_the_seed(made):
    params = {"w": jnp.ones(3)}
    a, b = (jax.tree.leaves(tx.init(params)) for tx in (made(key=3), made(seed=3)))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    with pytest.raises(jopt.ConfigError, match=r"not a key of jax's(.|\n)*jax\.random\.key_data"):
        made(key=jax.random.key(0))
