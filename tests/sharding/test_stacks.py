"""What is kept beside whole matrices, in stacks on the devices that own them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.benchmarks.on_mesh import cost, laid, step
from tests.sharding.meshes import AUTO, EXPLICIT
from tests.sharding.test_owners import AXES, SHAPES, SPEC, SPLIT, grammed, plain, rule, values

KINDS = pytest.mark.parametrize("kind", [EXPLICIT, AUTO], ids=["explicit", "auto"])
MESHES = ((2, 2, 2), (4, 2, 1), (4, 1, 1))

# A leaf whose matrices are split among experts, and one that is no matrix.
ALL = {**SHAPES, "experts": (4, 8, 12), "bias": (8,)}
SPLITS = {**SPLIT, "experts": P("e", None, "f"), "bias": P("f")}
LINES = {**AXES, "experts": "layer i o"}


def mesh_of(kind, sizes=MESHES[0]):
    devices = jax.devices()[: int(np.prod(sizes))]
    return jax.make_mesh(sizes, ("f", "t", "e"), axis_types=(kind,) * 3, devices=devices)


def put(tree, mesh, splits=SPLITS):
    return jax.device_put(tree, {k: NamedSharding(mesh, splits[k]) for k in tree})


def drawn(seed, shapes=ALL):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}


def stepped(tx, params, state, grads):
    updates, state = tx.update(grads, state, params)
    return jopt.apply_updates(params, updates), state


@functools.cache
def soap(groups=False, **settings):
    groups = {"few": jopt.group("^(wide|layers)", b1=0.5)} if groups else None
    return jopt.soap(0.1, axes=LINES, groups=groups, update_every=2, skips="tall", **settings)


def close(a, b, most=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=most), a, b)


@KINDS
def test_the_steps_are_those_of_one_device(kind):
    tx, mesh = grammed(axes=AXES), mesh_of(kind)
    params = put(values(0), mesh)
    tx = jopt.sharding.owned(tx, params)
    state = jopt.sharding.init(tx, params)
    stack = state["grammed"]["owned"]["default"]["8x12"]["gram"].array
    assert stack.shape == (8, 8, 8)  # six matrices on eight devices
    assert stack.addressable_shards[0].data.shape == (1, 8, 8)
    assert not state["grammed"]["gram"]
    for seed in (1, 2):
        params, state = jax.jit(functools.partial(stepped, tx))(
            params, state, put(values(seed), mesh)
        )
    close(params, plain((1, 2)), 1e-3)
    assert {k: x.shape for k, x in jopt.state_dict(state)["grammed"]["gram"].items()} == {
        "wide": (8, 8),
        "tall": (8, 8),
        "layers": (3, 8, 8),
        "heads": (8, 8),
    }


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("grouped", [False, True])
def test_soap_on_stacks_is_soap(kind, grouped):
    # One-sided, since Gram matrices of the longer side are singular, and any basis will do there.
    one, mesh = soap(grouped, one_sided=True), mesh_of(kind)
    tx = jopt.sharding.owned(one, put(drawn(0), mesh))
    own, whole = put(drawn(0), mesh), drawn(0)
    states = jopt.sharding.init(tx, own), one.init(whole)
    kept = jax.tree.structure(states[0])
    for seed in range(1, 5):
        grads = drawn(seed)
        if seed == 3:
            grads["tall"] = None  # it sits a step out, and its rows stay
        there = {k: None if g is None else put({k: g}, mesh)[k] for k, g in grads.items()}
        own, mine = jax.jit(functools.partial(stepped, tx))(own, states[0], there)
        whole, other = jax.jit(functools.partial(stepped, one))(whole, states[1], grads)
        states = mine, other
        assert jax.tree.structure(mine) == kept
    close(own, whole, 2e-4)
    close(jopt.state_dict(states[0]), jopt.state_dict(states[1]), 2e-4)


@pytest.mark.parametrize("kind", [EXPLICIT, pytest.param(AUTO, marks=pytest.mark.slow)])
def test_plain_init_places_stacks(kind):
    params = put(drawn(0), mesh_of(kind))
    tx = jopt.sharding.owned(soap(), params)
    a, b = tx.init(params), jopt.sharding.init(tx, params)
    stacks = jax.tree.leaves(a["soap"]["owned"]), jax.tree.leaves(b["soap"]["owned"])
    for x, y in zip(*stacks, strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
        np.testing.assert_array_equal(x, y)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.structure(a) == jax.tree.structure(jax.eval_shape(tx.init, params))


def filled(state):
    """A state with another number in every entry of matrices."""
    leaves, treedef = jax.tree.flatten(state)
    rng = np.random.default_rng(7)

    def some(x):
        if x.ndim < 2:
            return x
        return jax.device_put(rng.normal(size=x.shape).astype(x.dtype), x.sharding)

    return treedef.unflatten([some(x) for x in leaves])


@pytest.mark.parametrize("kind", [EXPLICIT, pytest.param(AUTO, marks=pytest.mark.slow)])
def test_files_have_an_array_a_parameter_and_fit_every_mesh(kind, tmp_path):
    params = put(drawn(0), mesh_of(kind))
    tx = jopt.sharding.owned(soap(), params)
    state = filled(jopt.sharding.init(tx, params))
    named = jopt.state_dict(state)
    want = soap().init(drawn(0))
    assert jax.tree.map(jnp.shape, named) == jax.tree.map(jnp.shape, want)
    plain = jopt.load_state_dict(want, named)
    jopt.save(tmp_path / "state", state)
    for sizes in MESHES:
        there = put(drawn(0), mesh_of(kind, sizes))
        other = jopt.sharding.owned(soap(), there)
        like = jopt.sharding.init(other, there)
        moved = jopt.load(tmp_path / "state", like)
        assert jax.tree.structure(moved) == jax.tree.structure(like)
        for x, y in zip(jax.tree.leaves(moved), jax.tree.leaves(like), strict=True):
            assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
        jax.tree.map(np.testing.assert_array_equal, jopt.state_dict(moved), named)
        back = jopt.sharding.to_stacks(other, plain, there)
        jax.tree.map(np.testing.assert_array_equal, jopt.sharding.to_leaves(back), named)
    assert jopt.checkpoint.differences(want, state) == []


def test_to_leaves_gives_the_state_without_stacks_as_it_lies():
    params = put(drawn(0), mesh_of(EXPLICIT))
    tx = jopt.sharding.owned(soap(), params)
    found = jopt.sharding.to_leaves(jopt.sharding.init(tx, params))
    want = jopt.sharding.init(soap(), params)
    assert jax.tree.structure(found) == jax.tree.structure(want)
    traced = jax.jit(jopt.sharding.to_leaves)(filled(jopt.sharding.init(tx, params)))
    assert jax.tree.structure(traced) == jax.tree.structure(want)
    for name in ("mu", "nu"):
        for leaf, x in want["soap"][name].items():
            mine = found["soap"][name][leaf]
            assert mine.sharding.is_equivalent_to(x.sharding, x.ndim), leaf


def test_extend_goes_by_names():
    few = {k: ALL[k] for k in ("wide", "layers", "bias")}
    mesh = mesh_of(EXPLICIT)
    axes = {"^layers": LINES["layers"]}
    old = jopt.sharding.owned(jopt.soap(axes=axes), put(drawn(0, few), mesh))
    state = filled(jopt.sharding.init(old, put(drawn(0, few), mesh)))
    more = few | {"tall": ALL["tall"]}
    params = put(drawn(0, more), mesh)
    new = jopt.sharding.owned(jopt.soap(axes=axes), params)
    grown, report = jopt.extend(new, state, params, report=True)
    structures = [jax.tree.structure(x["soap"]["owned"]) for x in (grown, new.init(params))]
    assert structures[0] == structures[1]
    assert report.fresh == {"soap": ("tall",)}
    before, after = jopt.state_dict(state)["soap"], jopt.state_dict(grown)["soap"]
    for name in ("mu", "basis_short"):
        for leaf in before[name]:
            np.testing.assert_array_equal(after[name][leaf], before[name][leaf])
        assert not after[name]["tall"].any()


@pytest.mark.slow
def test_leaves_of_two_ages_share_a_stack():
    """Each steps by its own count, and neither changes the other's rows."""
    few, mesh = {k: ALL[k] for k in ("wide", "bias")}, mesh_of(EXPLICIT)
    more = few | {"tall": ALL["tall"]}
    found = []
    for there in (True, False):
        own = functools.partial(put, mesh=mesh) if there else lambda x: x
        wrap = jopt.sharding.owned if there else lambda tx, params: tx
        params = own(drawn(0, few))
        tx = wrap(jopt.soap(0.1), params)
        params, state = stepped(tx, params, tx.init(params), own(drawn(1, few)))
        params = {**params, "tall": own(drawn(0, more))["tall"]}
        tx = wrap(jopt.soap(0.1), params)
        state = jopt.extend(tx, state, params)
        for seed in (2, 3, 4):
            grads = own(drawn(seed, more))
            params, state = jax.jit(functools.partial(stepped, tx))(params, state, grads)
        found.append((jopt.state_dict(params), jopt.state_dict(state)))
    close(*found, 2e-4)


def test_stacks_of_others_are_refused():
    params = put(drawn(0), mesh_of(EXPLICIT))
    tx = jopt.sharding.owned(soap(), params)
    state = jopt.sharding.init(tx, params)
    elsewhere = put(drawn(0), mesh_of(EXPLICIT, (4, 2, 1)))
    other = jopt.sharding.owned(soap(), elsewhere)
    with pytest.raises(jopt.StateError, match="lie otherwise") as told:
        other.update(elsewhere, jopt.sharding.init(tx, params), elsewhere)
    assert "to_leaves" in str(told.value)
    with pytest.raises(jopt.StateError, match="lie otherwise"):
        soap().update(params, state, params)


def test_what_has_no_stacks_is_as_ever():
    params = put(values(0), mesh_of(EXPLICIT))
    tx = jopt.sharding.owned(jopt.muon(axes=AXES), params)
    assert "owned" not in tx.init(params)["muon"]
    eight = jopt.sharding.owned(jopt.soap(state_dtype="int8", axes=AXES), params).init(params)
    assert {k for x in eight["soap"]["owned"]["default"].values() for k in x} == {
        "factor_short",
        "factor_long",
        "basis_short",
        "basis_long",
    }
    assert set(eight["soap"]["mu"]) == set(SHAPES)


@pytest.mark.parametrize(
    ("kind", "split"),
    [
        (EXPLICIT, P("f", "t")),
        pytest.param(AUTO, P(None, ("f", "t")), marks=pytest.mark.slow),
        pytest.param(AUTO, P("f"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_step_moves_gradient_and_direction_and_no_state(kind, split):
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(kind, kind))
    shapes = {str(i): [(8, 16), (16, 8)][i % 2] for i in range(8)}
    params = laid(mesh, shapes, split)
    tx = jopt.sharding.owned(jopt.soap(0.1, update_every=100), params)
    found = cost(step(tx, params)[0].as_text(), small=64)
    moves = {"all-to-all": 2} | ({} if len(split) == 2 else {"all-gather": 1})
    assert found.counts == moves
    assert found.nbytes["all-to-all"] <= 2 * 4 * 8 * 8 * 16 / 8


def test_a_rule_that_starts_from_the_parameter():
    slots = tuple(
        jopt.Slot("sum", init=lambda p: 2 * p, owned=True) if s.name == "sum" else s
        for s in SPEC.slots
    )
    spec = jopt.Spec("begun", SPEC.hypers, slots, gives="direction", ndim=2)
    tx = jopt.matrixwise(
        spec, rule, lambda x, s, h: (x, vars(s)), alike=True, learning_rate=0.1, axes=AXES
    )
    params = put(values(0), mesh_of(EXPLICIT))
    state = jopt.sharding.owned(tx, params).init(params)
    for name, x in jopt.state_dict(state)["begun"]["sum"].items():
        np.testing.assert_array_equal(x, 2 * values(0)[name])
