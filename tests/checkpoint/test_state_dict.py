"""Snapshots, and what happens when a state meets a tree that it does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.checkpoint import differences
from tests.checkpoint.helpers import assert_same, fails, grads, params, trained, transform


def doubled(tree):
    return jax.tree.map(lambda x: x + x, tree)


def test_a_snapshot_outlives_donation():
    state, _ = trained()
    snapshot = jopt.state_dict(state)
    again = jopt.state_dict(state)
    jax.jit(doubled, donate_argnums=0)(state)
    assert_same(snapshot, again)
    assert all(x.flags.owndata or x.base.flags.owndata for x in jax.tree.leaves(snapshot))


def test_a_snapshot_is_plain_numpy():
    snapshot = jopt.state_dict({"state": trained()[0], "params": params(), "lr": 0.1, "no": None})
    assert snapshot["params"]["dense"]["b"].dtype == jnp.bfloat16
    assert snapshot["lr"] == 0.1
    assert snapshot["no"] is None
    assert all(type(x) in (np.ndarray, float) for x in jax.tree.leaves(snapshot))


def test_a_restored_state_shares_nothing_with_the_state_dict():
    like = {"x": jnp.zeros(4096)}
    source = {"x": np.ones(4096, np.float32)}
    back = jopt.load_state_dict(like, source)
    source["x"][:] = 7
    assert np.asarray(back["x"]).max() == 1
    jax.jit(doubled, donate_argnums=0)(back)
    assert source["x"].max() == 7


def test_restoring_is_bit_equal_and_keeps_types():
    state, _ = trained()
    back = jopt.load_state_dict(transform().init(params()), jopt.state_dict(state))
    assert_same(back, state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(back))


def test_restoring_does_not_recompile():
    tx, p = transform(), params()
    state = tx.init(p)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    _, state = step(grads(), state, p)
    step(grads(), state, p)
    seen = step._cache_size()
    step(grads(), jopt.load_state_dict(state, jopt.state_dict(state)), p)
    step(grads(), jopt.from_bytes(tx.init(p), jopt.to_bytes(state)), p)
    assert step._cache_size() == seen


def test_shapes_serve_as_like():
    state, _ = trained()
    like = jax.eval_shape(transform().init, params())
    assert_same(jopt.load_state_dict(like, jopt.state_dict(state)), state)


def test_leaves_take_the_sharding_of_like():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("x",), ()))
    tree = {"w": np.arange(8, dtype=np.float32), "n": np.int32(3), "host": np.ones(2)}
    for like in (
        {"w": jax.device_put(jnp.zeros(8), split), "n": jax.device_put(jnp.int32(0), whole)},
        {
            "w": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=split),
            "n": jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
        },
    ):
        like = {**like, "host": np.zeros(2)}
        for back in (
            jopt.load_state_dict(like, tree),
            jopt.from_bytes(like, jopt.to_bytes(tree)),
            jopt.from_bytes(like, jopt.to_bytes(jopt.load_state_dict(like, tree))),
        ):
            assert_same(back, tree)
            assert back["w"].sharding == split
            assert back["n"].sharding == whole
            assert type(back["host"]) is np.ndarray


def test_all_differences_at_once():
    like = {"a": jnp.zeros(2), "b": jnp.zeros((2, 3)), "c": jnp.int32(0), "d": {"e": jnp.zeros(1)},
            "f": 1, "g": 1.0, "h": {}, "i": {}, "j": None}  # fmt: skip
    state = {"b": np.zeros((3, 2), np.float64), "c": np.float32(0), "d": np.zeros(1, np.float32),
             "f": np.int32(1), "g": 1, "h": {"x": np.zeros(1)}, "j": {}, "k/": {}}  # fmt: skip
    text = fails("the state does not fit `like`: 12 differences", jopt.load_state_dict, like, state)
    assert text.splitlines()[1:] == [
        "  missing       a: expected float32 (2,), found nothing",
        "  dtype         b: expected float32, found float64",
        "  shape         b: expected (2, 3), found (3, 2)",
        "  dtype         c: expected int32, found float32",
        "  unexpected    d: expected nothing, found float32 (1,)",
        "  missing       d/e: expected float32 (1,), found nothing",
        "  dtype         f: expected int, found int32 ()",
        "  dtype         g: expected float, found int",
        "  unexpected    h/x: expected nothing, found float64 (1,)",
        "  missing       i: expected an empty dict, found nothing",
        "  dtype         j: expected None, found an empty dict",
        "  unexpected    k~1: expected nothing, found an empty dict",
        (
            "  Nothing was loaded. strict=False takes what fits and keeps the rest of `like`. "
            "rename= gives leaves of the state other names."
        ),
    ]
    assert len(differences(like, state)) == 12
    file = fails("12 differences", jopt.from_bytes, like, jopt.to_bytes(state))
    assert file.splitlines()[1:-1] == text.splitlines()[1:-1]
    assert file.splitlines()[-1] == text.splitlines()[-1]


def test_not_strict_takes_what_fits():
    state, _ = trained()
    like = jopt.adamw(0.5, amsgrad=True).init({**params(), "new": jnp.ones(2)})
    back, report = jopt.load_state_dict(like, jopt.state_dict(state), strict=False)
    assert jax.tree.structure(back) == jax.tree.structure(like)
    for slot in ("mu", "nu"):
        assert_same(back["adamw"][slot]["dense"], state["adamw"][slot]["dense"])
        assert_same(back["adamw"][slot]["new"], like["adamw"][slot]["new"])
    assert_same(back["adamw"]["nu_max"], like["adamw"]["nu_max"])
    assert_same(back["adamw"]["count"], state["adamw"]["count"])
    assert_same(back["adamw"]["hyperparams"]["default"], state["adamw"]["hyperparams"]["default"])
    assert list(report.differences) == differences(like, state)
    assert "adamw/nu_max/scale" in report.missing
    assert report.unexpected == (
        "adamw/hyperparams/no_decay/weight_decay",
        "clip_by_global_norm/count",
        "clip_by_global_norm/hyperparams/default/max_norm",
    )
    assert {"adamw/mu/scale", "adamw/count"} < set(report.loaded)


def test_not_strict_needs_values_to_keep():
    like = {"a": jax.ShapeDtypeStruct((2,), jnp.float32), "b": jnp.zeros(1)}
    state = {"a": np.zeros(3, np.float32)}
    lost = "no value to keep, at\n  a: a shape"
    text = fails(lost, jopt.load_state_dict, like, state, strict=False)
    assert "tx.init(params) in place of jax.eval_shape" in text


def test_a_number_that_is_now_scheduled_and_the_reverse():
    number = jopt.adamw(0.1)
    plan = jopt.adamw(jopt.schedules.linear(1.0, 0.0, 10))
    p = params()
    for old, new, problem, want, have in (
        (number, plan, "scheduled", "a schedule", "a number"),
        (plan, number, "not scheduled", "a number", "a schedule"),
    ):
        state = old.init(p)
        _, state = old.update(grads(), state, p)
        line = (
            f"  {problem:13} adamw/hyperparams/default/learning_rate: expected {want}, found {have}"
        )
        text = fails("1 difference", jopt.load_state_dict, new.init(p), state)
        assert text.splitlines()[1] == line
        assert "strict=False" in text
        back, report = jopt.load_state_dict(new.init(p), state, strict=False)
        assert report.unfit == ("adamw/hyperparams/default/learning_rate",)
        assert_same(back["adamw"]["mu"], state["adamw"]["mu"])
        updates, _ = new.update(grads(1), back, p)
        assert jax.tree.structure(updates) == jax.tree.structure(p)
    # The schedule goes on from the step of the state, and says what comes next.
    assert jopt.hyperparams(plan.update(grads(), back_to(plan, number), p)[1])["adamw"]["default"][
        "learning_rate"
    ] == np.float32(0.8)


def back_to(plan, number):
    _, state = number.update(grads(), number.init(params()), params())
    return jopt.load_state_dict(plan.init(params()), state, strict=False)[0]


def with_idle_leaf():
    tx, p = transform(), params()
    idle = transform(skips="scale")
    state = idle.init(p)
    _, state = idle.update(grads(), state, p)
    _, state = idle.update({**grads(), "scale": None}, state, p)
    assert "leaf_count" in state["adamw"]
    return tx, state


def test_leaf_counts_are_taken_where_like_has_none():
    tx, state = with_idle_leaf()
    for like in (tx.init(params()), jax.eval_shape(tx.init, params()), state):
        assert_same(jopt.load_state_dict(like, jopt.state_dict(state)), state)
        back, report = jopt.load_state_dict(like, jopt.state_dict(state), strict=False)
        assert_same(back, state)
        assert report.ok
        back = jopt.from_bytes({"list": [like]}, jopt.to_bytes({"list": [state]}))
        assert_same(back["list"][0], state)
        assert isinstance(back["list"][0]["adamw"]["leaf_count"]["scale"], jax.Array)


def test_leaf_counts_are_dropped_where_the_state_has_none():
    tx, idle = with_idle_leaf()
    state, _ = trained(tx)
    assert_same(jopt.load_state_dict(idle, state), state)


def test_leaf_counts_have_to_be_counts():
    tx, state = with_idle_leaf()
    state["adamw"]["leaf_count"]["scale"] = np.float32(1)
    fails(
        "dtype         adamw/leaf_count/scale: expected int32, found float32",
        jopt.load_state_dict, tx.init(params()), state,
    )  # fmt: skip
    fails(
        "unexpected    leaf_count/w: expected nothing",
        jopt.load_state_dict, {"w": jnp.ones(1)}, {"w": jnp.ones(1), "leaf_count": {"w": 1}},
    )  # fmt: skip


def test_float64_without_x64_is_not_cast():
    like = jax.ShapeDtypeStruct((2,), np.float64)
    for call in (
        lambda: jopt.load_state_dict({"x": like}, {"x": np.zeros(2)}),
        lambda: jopt.from_bytes({"x": like}, jopt.to_bytes({"x": np.zeros(2)})),
    ):
        text = fails("jax cannot hold float64 here", call)
        assert "jax_enable_x64" in text
    assert_same(jopt.from_bytes(None, jopt.to_bytes({"x": np.zeros(2)})), {"x": np.zeros(2)})


def test_float64_with_x64(x64):
    tree = {"x": jnp.arange(3.0)}
    assert tree["x"].dtype == np.float64
    assert_same(jopt.from_bytes({"x": jnp.zeros(3)}, jopt.to_bytes(tree)), tree)
