"""Slots in 8 bits or bfloat16: every optimizer works with them as it does without."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.core.spec import REGISTRY
from tests.catalog import CATALOG
from tests.laws.harness import assert_close, assert_same_bits, extras, given, stepper

COMPRESSED = ("int8", "bfloat16")
EACH = [
    pytest.param(entry, kind, id=f"{entry.name}-{kind}")
    for entry in CATALOG
    if entry.compresses
    for kind in COMPRESSED
]
# The scope has pytest run all laws of one optimizer in turn, which then share their programs.
each = pytest.mark.parametrize(("entry", "kind"), EACH, scope="module")

# Blocks that fill their row, blocks that do not, and a small leaf; eight devices divide each.
SHAPES = {"long": (4096,), "ragged": (8, 700), "small": (8, 2)}


def tree(entry, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(size=shape), dtype)
        for name, shape in SHAPES.items()
        if len(shape) in entry.ndims
    }


def run(entry, tx, params, state, seeds):
    for seed in seeds:
        params, state = stepper(entry.name, tx)(params, state, tree(entry, seed + 1000))
    return params, state


def decoded(entry, state, params):
    """The same state with every slot as computed."""
    return jopt.convert_state(entry.make(), state, params)


def aspect(state):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)


def packed(entry, tx):
    """The slots that are stored in few bits."""
    (part,) = tx.parts.values()
    return [s for s in part.slots if s.compress and s.dtype is None and s.shape == "like"]


@each
def test_the_state_never_changes_its_shape_and_is_what_was_asked_for(entry, kind):
    tx, params = entry.make(state_dtype=kind), tree(entry)
    state = jax.jit(tx.init)(params)
    assert_same_bits(state, tx.init(params))
    assert aspect(jax.eval_shape(tx.init, params)) == aspect(state)
    after, new = run(entry, tx, params, state, range(3))
    assert aspect(new) == aspect(state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))
    for slot in packed(entry, tx):
        for name, stored in new[entry.name][slot.name].items():
            if name == "small":
                assert stored.dtype == jnp.float32
            elif kind == "bfloat16":
                assert stored.dtype == jnp.bfloat16
            else:
                sign = "signed" if slot.signed else "unsigned"
                assert set(stored) == {f"{sign}_dynamic_256", "scale"}
                assert stored["scale"].dtype == jnp.float32


@each
def test_a_fresh_state_holds_what_full_precision_begins_with(entry, kind):
    params = tree(entry)
    found = decoded(entry, entry.make(state_dtype=kind).init(params), params)
    want = entry.make().init(params)
    if kind == "int8":  # entries that are all alike are their block's scale
        assert_same_bits(found, want)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        # bfloat16 has 8 digits, and dither takes one of the two neighbours: 0 stays 0.
        assert np.all(np.abs(np.asarray(x) - np.asarray(y)) <= 2.0**-7 * np.abs(np.asarray(y)))


@each
def test_a_step_is_that_of_full_precision_from_what_is_stored(entry, kind):
    # Storing comes last: parameters move by slots that are fresh from the rule.
    tx, params = entry.make(state_dtype=kind), tree(entry)
    state = tx.init(params)
    for seed in range(3):
        want, _ = run(entry, entry.make(), params, decoded(entry, state, params), [seed])
        params, state = run(entry, tx, params, state, [seed])
        assert_close(params, want, rtol=1e-6)


@each
def test_zero_gradients_make_no_nan_and_zeros_stay_zero(entry, kind):
    tx, params = entry.make(state_dtype=kind), tree(entry)
    zeros, state = jax.tree.map(jnp.zeros_like, params), tx.init(params)
    for _ in range(2):
        params, state = stepper(entry.name, tx)(params, state, zeros)
    assert not any(np.isnan(np.asarray(x, np.float64)).any() for x in jax.tree.leaves(state))
    assert not any(np.isnan(x).any() for x in jax.tree.leaves(params))


@each
def test_save_load_continue_is_bit_equal(entry, kind):
    tx, params = entry.make(state_dtype=kind), tree(entry)
    params, state = run(entry, tx, params, tx.init(params), range(2))
    data = jopt.to_bytes(state, tx=tx)
    loaded = jopt.from_bytes(tx.init(params), data, tx=tx)
    assert_same_bits(loaded, state)
    bare = jax.tree.map(jnp.asarray, jopt.from_bytes(None, data))
    want = run(entry, tx, params, state, range(2, 4))
    assert_same_bits(run(entry, tx, params, bare, range(2, 4)), want)


@each
def test_a_leaf_without_gradient_keeps_its_codes(entry, kind):
    tx, params = entry.skipping(True, state_dtype=kind), tree(entry)
    params, state = run(entry, tx, params, tx.init(params), range(2))
    grads = tree(entry, 7)
    fed = {name: g if name == "small" else None for name, g in given(entry, grads).items()}
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, **extras(tx, p, grads)))
    _, new = update(fed, state, params)
    for slot in REGISTRY[entry.name].slots:
        if slot.scope == "leaf" and slot.name in state[entry.name]:
            old, now = ({**s[entry.name][slot.name], "small": None} for s in (state, new))
            assert_same_bits(now, old)


@each
def test_there_and_back_keeps_what_is_stored(entry, kind):
    tx, params = entry.make(state_dtype=kind), tree(entry)
    params, state = run(entry, tx, params, tx.init(params), range(2))
    wide = jopt.convert_state(entry.make(), state, params)
    assert aspect(wide) == aspect(entry.make().init(params))
    again = jopt.convert_state(tx, wide, params)
    for slot in REGISTRY[entry.name].slots:
        if slot.name in state[entry.name]:
            assert_same_bits(again[entry.name][slot.name], state[entry.name][slot.name])


@each
def test_sharded_like_the_parameters_and_equal_to_whole(entry, kind):
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    tx, params, grads = entry.make(state_dtype=kind), tree(entry), tree(entry, 5)
    rows = NamedSharding(mesh, P("d"))
    placed, fed = jax.device_put((params, grads), rows)
    where = jopt.sharding.state_sharding(tx, placed)
    state = jopt.sharding.init(tx, placed)
    whole = stepper(entry.name, tx)(params, tx.init(params), grads)
    got, new = stepper(entry.name, tx)(placed, state, fed)
    for slot in packed(entry, tx):
        for stored in jax.tree.leaves(new[entry.name][slot.name]):
            assert stored.sharding.is_equivalent_to(rows, stored.ndim)
        for wanted in jax.tree.leaves(where[entry.name][slot.name]):
            assert wanted.spec[0] == "d"
    assert_close(got, whole[0], rtol=1e-5)
    wide, want = (decoded(entry, s, params) for s in (new, whole[1]))
    terms = sum(float(jnp.abs(params[k] * grads[k]).sum()) for k in params)
    for (path, x), y in zip(jax.tree.leaves_with_path(wide), jax.tree.leaves(want), strict=True):
        # A sum in another order may take an entry over a threshold, to the next code.
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        scale = terms if path[1].key in entry.inner_products else np.abs(y).max()
        assert np.mean(np.abs(x - y) > 1e-5 * scale) < 0.002


OUT_OF_RANGE = (3e20, 1e38, -3e38, 1e-45, 3.4e38)
NO_NUMBERS = (np.nan, np.inf, -np.inf)


def with_bad(entry, seed, bad):
    """Gradients of which one entry in a block each is one of these."""
    grads = {k: np.array(g) for k, g in tree(entry, seed).items()}
    for i, value in enumerate(bad):
        for name, at in (("long", 256 * i + 7), ("ragged", (i, 300))):
            if name in grads:
                grads[name][at] = value
    return jax.tree.map(jnp.asarray, grads)


def ends(entry, tx, bad):
    """The parameters after a step with such gradients, and after each of three more."""
    params = tree(entry)
    params, state = stepper(entry.name, tx)(params, tx.init(params), with_bad(entry, 1000, bad))
    found = [params]
    for seed in (1001, 1002, 1003):
        params, state = stepper(entry.name, tx)(params, state, tree(entry, seed))
        found.append(params)
    return found


@each
@pytest.mark.parametrize("bad", [OUT_OF_RANGE, NO_NUMBERS], ids=["range", "numbers"])
def test_what_is_finite_with_full_precision_is_finite(entry, kind, bad):
    want, got = (ends(entry, entry.make(**kw), bad) for kw in ({}, {"state_dtype": kind}))
    for x, y in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        assert not (np.isfinite(x) & ~np.isfinite(y)).any()
    if not REGISTRY[entry.name].elementwise:
        return
    # An entry that is no number is its own affair: others move as if its gradient were 0.
    if bad is NO_NUMBERS:
        calm = ends(entry, entry.make(state_dtype=kind), (0.0,) * len(bad))
        for name, start in tree(entry).items():
            x, y = np.asarray(calm[-1][name]), np.asarray(got[-1][name])
            others = np.asarray(with_bad(entry, 1000, (0.0,) * len(bad))[name]) != 0
            moved = np.abs(x - np.asarray(start))[others].max()
            assert np.abs(x - y)[others].max() <= 0.1 * moved
            if np.array_equal(want[0][name], start):
                continue  # a step that only remembers: codes do not remember what is no number
            # And it ends as with full precision: no number, or where it was.
            same = np.isfinite(np.asarray(want[-1][name])) == np.isfinite(y)
            assert same.all()
