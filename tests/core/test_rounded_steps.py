"""Stochastic rounding in `apply_updates` and `step`: keys, paths, shards, and runs that move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.core.helpers import error

KEY = jax.random.key(0)
PARAMS = {
    "a": jnp.ones((8, 16), "bfloat16"),
    "b": {"half": jnp.ones(40, "float16"), "whole": jnp.ones(5)},
}
UPDATES = jax.tree.map(lambda p: jnp.full(p.shape, -1e-3), PARAMS)


def rounded(params, updates, key=KEY):
    return jopt.apply_updates(params, updates, rounding="stochastic", key=key)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_wide_leaves_none_and_integers_are_as_ever():
    params = {**PARAMS, "n": jnp.arange(2), "idle": jnp.ones(2, "bfloat16")}
    updates = {**UPDATES, "n": jnp.zeros(2), "idle": None}
    after = rounded(params, updates)
    assert after["idle"] is params["idle"]
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, params)
    np.testing.assert_array_equal(after["b"]["whole"], jnp.float32(1 - 1e-3))


def test_a_key_gives_one_result_and_another_key_another():
    after = rounded(PARAMS, UPDATES)
    same(after, jax.jit(rounded)(PARAMS, UPDATES, KEY))
    same(after, rounded(PARAMS, UPDATES, jax.random.PRNGKey(0)))
    other = rounded(PARAMS, UPDATES, jax.random.key(1))
    assert not np.array_equal(after["a"], other["a"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_with_x64_the_draws_are_the_same(dtype):
    # Sums that float32 holds: the digits that float64 draws besides cannot turn one over.
    updates = jax.tree.map(lambda u: jnp.full(u.shape, -(2.0**-10)), UPDATES)
    after = rounded(PARAMS, updates)
    with jax.enable_x64(True):
        again = rounded(PARAMS, jax.tree.map(lambda u: u.astype(dtype), updates))
    same(again, after)


def test_a_leaf_draws_the_same_beside_other_leaves_and_leaves_draw_apart():
    more = {**PARAMS, "0": PARAMS["a"], "z": PARAMS["a"]}
    after = rounded(more, {**UPDATES, "0": UPDATES["a"], "z": UPDATES["a"]})
    same({k: after[k] for k in PARAMS}, rounded(PARAMS, UPDATES))
    assert not np.array_equal(after["0"], after["z"])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("x"), P(None, "x"), P("y", "x")])
def test_sharded_equals_whole(kind, spec):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    place = NamedSharding(mesh, spec)
    params = {"a": jax.device_put(PARAMS["a"], place)}
    updates = {"a": jax.device_put(UPDATES["a"], place)}
    after = jax.jit(rounded)(params, updates, KEY)
    assert after["a"].sharding.is_equivalent_to(place, 2)
    np.testing.assert_array_equal(after["a"], rounded(PARAMS, UPDATES)["a"])


@pytest.mark.parametrize(
    "tx",
    [jopt.adamw(0.01), jopt.accumulate(jopt.sgd(0.01), every=2), jopt.chain()],
    ids=["adamw", "accumulate", "empty"],
)
def test_step_is_update_and_apply_updates(tx):
    whole = jax.jit(lambda g, s, p, k: jopt.step(tx, g, s, p, rounding="stochastic", key=k))

    @jax.jit
    def apart(g, s, p, k):
        u, s = tx.update(g, s, p)
        return rounded(p, u, k), s

    one = two = (PARAMS, tx.init(PARAMS))
    for i in range(4):
        grads = jax.tree.map(lambda p, i=i: jnp.cos(i + p.astype(jnp.float32)), PARAMS)
        key = jax.random.fold_in(KEY, i)
        one = apart(grads, one[1], one[0], key)
        two = whole(grads, two[1], two[0], key)
    same(one[0]["a"], two[0]["a"])
    same(one[0]["b"]["half"], two[0]["b"]["half"])


def test_the_key_also_goes_to_the_transform():
    spec = jopt.Spec("drawing", extra=("key",), steps=False)
    drawn = jopt.leafwise(spec, lambda g, s, p, h: (jax.random.normal(h.key, g.shape), {}))
    params, zero = {"w": jnp.ones(6)}, {"w": jnp.zeros(6)}
    after, _ = jopt.step(drawn, zero, drawn.init(params), params, key=KEY)
    np.testing.assert_array_equal(after["w"], 1 + jax.random.normal(KEY, (6,)))


def test_sparse_rows_are_rounded_and_the_others_left():
    table = jnp.ones((50, 64), "bfloat16")
    ids = jnp.asarray([3, 7, 3])
    u = jopt.row_gradient(ids, jnp.full((3, 64), -5e-4), table)
    after = np.asarray(rounded(table, u), np.float32)
    assert set(np.unique(after[[3, 7]])) == {np.float32(1 - 2.0**-8), 1}
    assert (np.delete(after, [3, 7], axis=0) == 1).all()


def hundred_steps(apply, tx):
    params = {"w": jnp.ones(256, "bfloat16")}
    grads = {"w": jnp.ones(256, "bfloat16")}

    def body(carry, i):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (apply(params, updates, jax.random.fold_in(KEY, i)), state), None

    start = (params, tx.init(params))
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(body, c, jnp.arange(100)))(start)
    return np.asarray(params["w"], np.float64)


def test_a_bfloat16_weight_of_one_moves_to_nine_tenths_in_a_hundred_steps():
    def theirs(params, updates, key):
        return optax.apply_updates(params, updates)

    with jax.numpy_dtype_promotion("standard"):  # which optax counts on
        assert (hundred_steps(theirs, optax.adamw(1e-3, weight_decay=0.0)) == 1).all()
    ours = jopt.adamw(1e-3, weight_decay=0.0)
    assert (hundred_steps(lambda p, u, k: jopt.apply_updates(p, u), ours) == 1).all()
    moved = hundred_steps(rounded, ours)
    # A walk of 100 steps, each of -2⁻⁸ with probability 1e-3·2⁸, else 0.
    deviation = 2.0**-8 * np.sqrt(100 * 0.256 * 0.744 / 256)
    assert abs(moved.mean() - 0.9) < 4 * deviation


def test_an_unknown_rounding_a_missing_key_and_what_is_no_key():
    with error(
        jopt.ConfigError,
        """
        apply_updates: there is no such rounding
          expected: 'nearest' or 'stochastic'
          found:    'up'
        """,
    ):
        jopt.apply_updates(PARAMS, UPDATES, rounding="up")
    tx = jopt.sgd(0.1)
    with error(
        jopt.ConfigError,
        """
        step: stochastic rounding needs key=
          Give another key at every step: key=jax.random.fold_in(key, step).
        """,
    ):
        jopt.step(tx, UPDATES, tx.init(PARAMS), PARAMS, rounding="stochastic")
    with error(
        jopt.ConfigError,
        """
        apply_updates: key= is no random key
          expected: jax.random.key(seed)
          found:    3
        """,
    ):
        rounded(PARAMS, UPDATES, 3)
