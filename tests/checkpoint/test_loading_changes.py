"""A run that goes on with something changed: each is one call of `docs/checkpoints.md`.

What a call should give is said leaf by leaf: the file's value, or that of a fresh state.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint.leaves import flatten
from jopt.core.paths import shown
from tests.checkpoint.helpers import assert_same, grads, params, trained

ADAMW = jopt.adamw(1e-2)
CLIPPED = jopt.chain(jopt.clip_by_global_norm(1.0), ADAMW)
FROZEN = jopt.adamw(1e-2, groups={"frozen": jopt.group("^dense/", freeze=True)})
GROUPED = jopt.adamw(1e-2, groups={"no_decay": jopt.group("b$", weight_decay=0.0)})
OTHER_GROUPS = jopt.adamw(1e-2, groups={"slow": jopt.group("^scale$", learning_rate=1e-4)})
PLAN = jopt.adamw(jopt.schedules.linear(1.0, 0.0, 10))

# Before, after, what the call is given, and the names that have the fresh state's value.
CHANGES = {
    "clip added": (ADAMW, CLIPPED, {"keep": "^clip_by_global_norm/"}, "^clip"),
    "clip removed": (CLIPPED, ADAMW, {"keep": "^clip_by_global_norm/"}, None),
    "average added": (ADAMW, jopt.ema(ADAMW, decay=0.9), {"keep": "^ema/"}, "^ema"),
    "average removed": (jopt.ema(ADAMW, decay=0.9), ADAMW, {"keep": "^ema/"}, None),
    "accumulated": (
        ADAMW, jopt.accumulate(ADAMW, every=2),
        {"rename": {"^adamw/": "accumulate/inner/adamw/"}, "keep": "^accumulate/(micro|sum)"},
        "^accumulate/(micro|sum)",
    ),
    "a chain accumulated": (
        CLIPPED, jopt.accumulate(CLIPPED, every=2),
        {"rename": {"^": "accumulate/inner/"}, "keep": "^accumulate/(micro|sum)"},
        "^accumulate/(micro|sum)",
    ),
    "unwrapped": (
        jopt.accumulate(ADAMW, every=2), ADAMW,
        {"rename": {"^accumulate/inner/": ""}, "keep": "^accumulate/"}, None,
    ),
    "another rate": (ADAMW, jopt.adamw(5.0), {"keep": "/learning_rate$"}, "/learning_rate$"),
    "a rate scheduled": (ADAMW, PLAN, {"keep": "/learning_rate"}, "/learning_rate/value$"),
    "a schedule ended": (PLAN, ADAMW, {"keep": "/learning_rate"}, "/learning_rate$"),
    "groups added": (ADAMW, GROUPED, {"keep": "/no_decay/"}, "/no_decay/"),
    "groups removed": (GROUPED, ADAMW, {"keep": "/no_decay/"}, None),
    "other groups": (GROUPED, OTHER_GROUPS, {"keep": "/hyperparams/"}, "/hyperparams/"),
    "frozen": (ADAMW, FROZEN, {"keep": "/[mn]u/dense/"}, None),
}  # fmt: skip


INNER = "accumulate/inner/"


def by_name(tree):
    return {shown(path): leaf for path, leaf in flatten("test", tree).items()}


def origin(name, old):
    """The name that a leaf has in the file: the same, or within a wrapper or out of it."""
    return next(n for n in (name, name.removeprefix(INNER), INNER + name) if n in old)


@pytest.mark.parametrize("name", CHANGES)
def test_every_leaf_has_the_value_it_should(name, tmp_path):
    before, after, options, fresh = CHANGES[name]
    state, p = trained(before)
    like = after.init(p)
    jopt.save(tmp_path / "run.jopt", state, tx=before)
    back = jopt.load(tmp_path / "run.jopt", like, **options)
    old, new = by_name(state), by_name(like)
    left = {n for n in new if fresh and re.search(fresh, n)}
    # Which numbers the transform was built with is known of the one that goes on.
    left |= {n for n in new if n.endswith("/given")}
    assert_same(by_name(back), {n: x if n in left else old[origin(n, old)] for n, x in new.items()})
    assert_same(jopt.load_state_dict(like, jopt.state_dict(state), **options), back)
    assert len(left) < len(new)
    updates, _ = after.update(grads(9), back, p)
    assert jax.tree.structure(updates) == jax.tree.structure(p)


def test_a_schedule_goes_on_from_the_step_of_the_file():
    before, after, options, _ = CHANGES["a rate scheduled"]
    state, p = trained(before)
    back = jopt.from_bytes(after.init(p), jopt.to_bytes(state), **options)
    _, back = after.update(grads(3), back, p)
    rate = jopt.hyperparams(back)["adamw"]["default"]["learning_rate"]
    assert rate == np.float32(0.6)  # of the step to come


def test_what_was_added_acts_as_from_the_start():
    # sgd without momentum has no past, so clipping added later does what it always did.
    sgd = jopt.sgd(0.1)
    clipped = jopt.chain(jopt.clip_by_global_norm(0.01), sgd)
    state, p = trained(sgd)
    back = jopt.load_state_dict(clipped.init(p), state, keep="^clip")
    updates, _ = clipped.update(grads(5), back, p)
    assert_same(updates, clipped.update(grads(5), clipped.init(p), p)[0])


def test_a_model_with_other_names():
    state, p = trained(ADAMW)
    renamed = {"layers": {"0": p["dense"]}, "scale": p["scale"]}
    data = jopt.to_bytes({"params": p, "state": state}, tx=ADAMW)
    like = jax.tree.map(jnp.zeros_like, {"params": renamed, "state": ADAMW.init(renamed)})
    back = jopt.from_bytes(like, data, tx=ADAMW, rename={"/dense/": "/layers/0/"})
    assert_same(back["params"], renamed)
    for slot in ("mu", "nu"):
        assert_same(back["state"]["adamw"][slot]["layers"]["0"], state["adamw"][slot]["dense"])
    updates, _ = ADAMW.update({"layers": {"0": grads(4)["dense"]}, "scale": grads(4)["scale"]},
                              back["state"], renamed)  # fmt: skip
    expected, _ = ADAMW.update(grads(4), state, p)
    assert_same(updates, {"layers": {"0": expected["dense"]}, "scale": expected["scale"]})


def test_layers_with_an_age_are_renamed_with_it():
    tx, p = jopt.adamw(1e-2, skips="scale"), params()
    _, state = tx.update(grads(), tx.init(p), p)
    _, state = tx.update({**grads(), "scale": None}, state, p)
    tx = ADAMW
    renamed = {"dense": p["dense"], "gain": p["scale"]}
    back = jopt.load_state_dict(tx.init(renamed), state, rename={"/scale$": "/gain"})
    assert_same(back["adamw"]["leaf_count"], {"gain": np.int32(1)})


EXTENDED = {
    "layers added": (ADAMW, ADAMW, {"new": jnp.ones(2)}, {("new",)}),
    "unfrozen": (FROZEN, ADAMW, {}, {("dense", "w"), ("dense", "b")}),
    "scheduled": (ADAMW, PLAN, {}, set()),
    "groups": (GROUPED, OTHER_GROUPS, {}, set()),
}


@pytest.mark.parametrize("name", EXTENDED)
def test_extend_takes_what_a_file_holds(name):
    before, after, more, young = EXTENDED[name]
    state, p = trained(before)
    more = {**p, **more}
    loaded = jopt.from_bytes(None, jopt.to_bytes(state))
    back = jopt.extend(after, loaded, more)
    assert_same(back, jopt.extend(after, state, more))
    aged = flatten("test", back["adamw"].get("leaf_count", {}))
    assert {path for path in aged if path} == young
    old = flatten("test", state["adamw"]["mu"])
    for path, leaf in flatten("test", back["adamw"]["mu"]).items():
        assert_same(leaf, jnp.zeros_like(leaf) if path in young else old[path])
    after.update(jax.tree.map(jnp.ones_like, more), back, more)
