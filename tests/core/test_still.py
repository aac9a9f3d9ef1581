"""Frozen leaves count nowhere: not in norms, averages, sums, copies; whatever they are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import jopt

PARAMS = {
    "base": {"w": jnp.full(3, 2.0)},
    "head": jnp.zeros(()),
    "ids": jnp.arange(3),
    "mask": jnp.array([True, False]),
    "rng": jax.random.key(0),
}
GRADS = {
    "base": {"w": jnp.full(3, 100.0)},
    "head": jnp.float32(1.0),
    "ids": np.zeros(3, jax.dtypes.float0),
    "mask": None,
    "rng": np.zeros((), jax.dtypes.float0),
}
STILL = jopt.group("^(base|ids|mask|rng)", freeze=True)
SGD = jopt.sgd(1.0, momentum=0.9, groups={"still": STILL})


def clipped(tx=SGD):
    return jopt.chain(jopt.clip_by_global_norm(0.5), tx)


ROUTES = jopt.route(
    jopt.sgd(1.0, momentum=0.9, groups={"a": jopt.group("^ids|^mask", freeze=True)}),
    other=("^(rng|base)", jopt.adamw(0.1, groups={"b": jopt.group("rng|base", freeze=True)})),
)
ALL = {
    "alone": SGD,
    "clipped": clipped(),
    "clipped by leaf": jopt.chain(
        jopt.clip_by_norm(0.5, groups={"base": jopt.group("^base", max_norm=0.1)}), SGD
    ),
    "groups clipped": jopt.chain(
        jopt.clip_by_global_norm(0.5, groups={"base": jopt.group("^base", max_norm=0.1)}), SGD
    ),
    "several groups": jopt.sgd(
        1.0,
        groups={k: jopt.group(f"^{k}", freeze=True) for k in ("base", "ids", "mask", "rng")},
    ),
    "accumulated": jopt.accumulate(clipped(), every=2),
    "skipping": jopt.skip_nonfinite(clipped()),
    "ema": jopt.ema(clipped()),
    "swa": jopt.swa(clipped()),
    "masters": jopt.master_weights(clipped()),
    "routes": clipped(ROUTES),
    "deep": jopt.chain(
        jopt.clip_by_value(10.0), jopt.ema(jopt.accumulate(clipped(ROUTES), every=2))
    ),
    "8 bits": jopt.adam(1.0, groups={"still": STILL}, state_dtype="int8"),
    "foreign before": jopt.chain(optax.clip_by_global_norm(0.5), SGD),
    "foreign behind": jopt.chain(SGD, optax.trace(0.9)),
}
each = pytest.mark.parametrize("tx", ALL.values(), ids=ALL)


def moving(tree):
    return {"head": tree["head"]}


def alone(name):
    """The same transform of the head only, without groups."""
    return {
        "alone": jopt.sgd(1.0, momentum=0.9),
        "clipped": clipped(jopt.sgd(1.0, momentum=0.9)),
    }[name]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["alone", "clipped"])
def test_the_others_move_as_if_there_were_none(name):
    tx, one = ALL[name], alone(name)
    params, state, head, own = PARAMS, tx.init(PARAMS), moving(PARAMS), one.init(moving(PARAMS))
    for _ in range(3):
        updates, state = tx.update(GRADS, state, params)
        params = jopt.apply_updates(params, updates)
        u, own = one.update(moving(GRADS), own, head)
        head = jopt.apply_updates(head, u)
    same(moving(params), head)
    same({**params, "head": PARAMS["head"]}, PARAMS)


def test_a_clip_before_is_torchs_without_gradients():
    base, head = torch.full((3,), 2.0), torch.zeros((), requires_grad=True)
    theirs = torch.optim.AdamW([head, base.requires_grad_(False)], lr=1.0)
    groups = {"base": jopt.group("^base", freeze=True)}
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(1.0, groups=groups))
    params = {"base": jnp.full(3, 2.0), "head": jnp.zeros(())}
    state = tx.init(params)
    for g in (1.0, 30.0, -2.0):
        head.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_([head, base], 1.0)
        theirs.step()
        grads = {"base": jnp.full(3, 100.0), "head": jnp.float32(g)}
        updates, state = tx.update(grads, state, params)
        params = jopt.apply_updates(params, updates)
        np.testing.assert_allclose(params["head"], head.detach(), rtol=2e-6)


@each
def test_updates_are_zeros_and_states_hold_nothing_of_them(tx):
    state = tx.init(PARAMS)
    for _ in range(2):
        updates, state = tx.update(GRADS, state, PARAMS)
    assert updates["head"] != 0
    for name in ("ids", "mask"):
        np.testing.assert_array_equal(updates[name], jnp.zeros_like(PARAMS[name]))
        assert updates[name].dtype == PARAMS[name].dtype
    assert updates["rng"] is None
    assert not updates["base"]["w"].any()
    names = {str(k) for path, _ in jax.tree.flatten_with_path(state)[0] for k in path}
    assert not names & {"['ids']", "['mask']", "['rng']", "['w']"}
    leaves = [
        x for path, x in jax.tree.flatten_with_path(state)[0] if "['given']" not in map(str, path)
    ]
    assert all(x.size == 1 for x in leaves)


@each
def test_whatever_stands_for_their_gradient_does_not_matter(tx):
    spoiled = {**GRADS, "base": {"w": jnp.full(3, jnp.nan)}}
    step = functools.partial(tx.update, params=PARAMS)
    first = second = tx.init(PARAMS)
    for _ in range(2):
        (a, first), (b, second) = step(GRADS, first), step(spoiled, second)
    same((a, first), (b, second))


@each
def test_they_pass_through_everything_else(tx):
    fresh = tx.init(PARAMS)
    grads = {**GRADS, "ids": None, "rng": None}
    step = jax.jit(lambda state, params: jopt.step(tx, grads, state, params))
    params, state = step(fresh, PARAMS)
    params, state = step(state, params)
    same({**params, "head": PARAMS["head"]}, PARAMS)
    assert params["head"] != 0
    same(jopt.from_bytes(fresh, jopt.to_bytes(state, tx=tx), tx=tx), state)
    same(
        jopt.eval_params(state, params), {**params, "head": jopt.eval_params(state, params)["head"]}
    )
    same(jopt.convert_state(tx, state, params), state)
    if "foreign" not in state:
        same(jopt.extend(tx, state, params), state)
    mesh = jax.make_mesh((1,), ("data",))
    shardings = jopt.sharding.state_sharding(tx, PARAMS, mesh)
    assert jax.tree.structure(shardings) == jax.tree.structure(fresh)
    jopt.sharding.zero1(tx, PARAMS, "data", mesh)
    placed = jax.device_put(PARAMS, jax.NamedSharding(mesh, jax.P()))
    same(jopt.sharding.init(tx, placed), fresh)


def test_stochastic_rounding_and_narrow_ones():
    params = {**PARAMS, "base": {"w": jnp.full(3, 2.0, "bfloat16")}}
    grads = {**GRADS, "base": {"w": jnp.full(3, 2.0, "bfloat16")}}
    tx = jopt.master_weights(SGD)
    updates, state = tx.update(grads, tx.init(params), params)
    assert updates["base"]["w"].dtype == jnp.bfloat16
    assert state["master_weights"]["master"] == {}
    key = jax.random.key(1)
    after = jopt.apply_updates(params, updates, rounding="stochastic", key=key)
    stepped, _ = jopt.step(tx, grads, tx.init(params), params, rounding="stochastic", key=key)
    same(after, stepped)


def test_without_parameters_zeros_are_like_the_gradient():
    tx = jopt.sgd(1.0, groups={"base": jopt.group("base", freeze=True)})
    clip = jopt.clip_by_value(0.5, groups={"base": jopt.group("base", freeze=True)})
    grads = {"base": jnp.full(3, 2.0), "head": jnp.float32(3.0)}
    updates, _ = clip.update(grads, clip.init(grads))  # a clip that skips a leaf freezes nothing
    np.testing.assert_array_equal(updates["base"], 2.0)
    chained = jopt.chain(jopt.clip_by_value(0.5), jopt.accumulate(clip, every=1))
    updates, _ = chained.update(grads, chained.init(grads))
    np.testing.assert_array_equal(updates["base"], 0.5)
    assert tx.layout(grads)[0].still == {0}


def test_patterns_still_meet_all_leaves():
    with pytest.raises(jopt.GroupError, match="matches no leaf"):
        jopt.chain(
            jopt.clip_by_norm(1.0, groups={"x": jopt.group("none", max_norm=2.0)}), SGD
        ).init(PARAMS)
    tx = jopt.chain(jopt.clip_by_norm(1.0, groups={"x": jopt.group("ids", max_norm=2.0)}), SGD)
    tx.update(GRADS, tx.init(PARAMS), PARAMS)


def test_an_integer_that_is_not_frozen_is_an_error_as_before():
    tx = jopt.accumulate(jopt.sgd(1.0), every=2)
    with pytest.raises(jopt.TreeError, match="a parameter cannot be optimized"):
        tx.init({"ids": jnp.arange(3)})


def test_a_frozen_base_costs_no_bytes():
    params = {"base": jnp.zeros((1000, 1000)), "head": jnp.zeros(10)}
    inner = jopt.adamw(groups={"base": jopt.group("base", freeze=True)}, state_dtype="bfloat16")
    tx = jopt.swa(jopt.ema(jopt.accumulate(jopt.master_weights(inner), every=4)))
    half = jax.tree.map(lambda p: p.astype("bfloat16"), params)
    shapes = jax.eval_shape(tx.init, half)
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)) < 500


def test_averages_of_some_leaves_only():
    params = {"base": jnp.ones(3), "head": jnp.zeros(2)}
    groups = {"base": jopt.group("^base", freeze=True)}
    for tx in (
        jopt.ema(jopt.sgd(1.0), decay=0.5, groups=groups),
        jopt.swa(jopt.sgd(1.0), groups=groups),
    ):
        state = tx.init(params)
        one = params
        for _ in range(3):
            one, state = jopt.step(tx, jax.tree.map(jnp.ones_like, one), state, one)
        found = jopt.eval_params(state, one)
        np.testing.assert_array_equal(found["base"], one["base"])
        np.testing.assert_array_equal(one["base"], -2.0)
        assert not np.array_equal(found["head"], one["head"])
