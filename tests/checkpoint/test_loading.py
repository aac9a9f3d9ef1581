"""Loading into another tree: renamed, kept and cast leaves, and the report of what fitted."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.checkpoint import Report, differences
from tests.checkpoint.helpers import assert_same, fails, grads, params, trained, transform

LIKE = {"a": jnp.zeros(2), "b": {"c": jnp.zeros(3), "d/e": jnp.zeros(1)}}
STATE = {"x": np.ones(2, np.float32), "y": {"c": np.ones(3, np.float32)}, "z": np.ones(1, "f4")}
RENAME = {"^x$": "a", "^y/": "b/", "^z$": "b/d~1e"}
FULL = {"a": np.ones(2, "f4"), "b": {"c": np.ones(3, "f4"), "d/e": np.ones(1, "f4")}}


def loads(like, tree, **options):
    """The same call through all three doors; they agree."""
    one = jopt.load_state_dict(like, tree, **options)
    two = jopt.from_bytes(like, jopt.to_bytes(tree), **options)
    if options.get("strict", True):
        assert_same(two, one)
        return one
    assert_same(two[0], one[0])
    assert two[1] == one[1]
    return one


def test_leaves_are_renamed_by_each_pattern_in_turn():
    assert_same(loads(LIKE, STATE, rename=RENAME), FULL)
    chained = {"x": "q", "^q$": "a", re.compile("^y"): "b", "z": "b/d~1e"}
    assert_same(loads(LIKE, STATE, rename=chained), FULL)
    assert_same(jopt.from_bytes(None, jopt.to_bytes(STATE), rename=RENAME), FULL)


def test_groups_of_a_pattern_are_filled_in():
    like = {"enc": {str(i): jnp.zeros(1) for i in range(12)}}
    state = {f"layer{i}": {"enc": np.full(1, i, "f4")} for i in range(12)}
    back = loads(like, state, rename={r"layer(\d+)/(?P<what>\w+)": r"\g<what>/\1"})
    assert [float(back["enc"][str(i)][0]) for i in range(12)] == list(range(12))


def test_a_tree_of_one_leaf_has_the_empty_name():
    assert_same(loads({"w": jnp.zeros(2)}, np.ones(2, "f4"), rename={"^$": "w"}), {"w": FULL["a"]})
    assert_same(loads(jnp.zeros(2), {"w": np.ones(2, "f4")}, rename={"^w$": ""}), FULL["a"])


def test_renaming_errors():
    call = jopt.load_state_dict
    text = fails("rename= has a pattern that matches no leaf", call, LIKE, STATE, rename={"k": ""})
    assert text.splitlines()[1:] == ["  expected: one of x, y/c, z", "  found:    'k'"]
    text = fails("several leaves one name", call, LIKE, STATE, rename={"^[xz]": "b/c", "y": "b"})
    assert text.splitlines()[1:] == ["  b/c: from x and y/c and z"]
    text = fails("several leaves one name", call, LIKE, STATE, rename={"^x$": "y"})
    assert text.splitlines()[1:] == ["  y: from x, and others within it"]
    text = fails("that is no name of a leaf", call, LIKE, STATE, rename={"^x$": "a~"})
    assert "at:       x" in text
    assert "found:    'a~'" in text
    assert "~1 stands for a / within a key" in text
    fails("a replacement that re.sub refuses", call, LIKE, STATE, rename={"^x$": r"\1"})
    fails("rename= has no valid regular expression", call, LIKE, STATE, rename={"(": ""})
    fails("a replacement as text", call, LIKE, STATE, rename={"x": 1})
    fails("a regular expression as text", call, LIKE, STATE, rename={b"x": "a"})
    fails("a dict of regular expressions", call, LIKE, STATE, rename=["x"])


def test_an_empty_container_makes_room_for_leaves():
    back = loads({"a": {"b": jnp.zeros(2)}}, {"a": {}, "b": FULL["a"]}, rename={"^b$": "a/b"})
    assert_same(back, {"a": {"b": FULL["a"]}})


def test_kept_leaves_have_the_value_of_like():
    tree = {"a": np.ones(2, "f4"), "b": {"c": np.ones(9), "d/e": np.ones(1, "f4")}, "more": 3}
    back = loads(LIKE, tree, keep=("^b/c$", "^more$"))
    assert_same(back, {**FULL, "b": {**FULL["b"], "c": np.zeros(3, "f4")}})
    assert back["b"]["c"] is not None
    alone = jopt.load_state_dict(LIKE, {"b": tree["b"], "more": 3}, keep=re.compile("a$|c$|more"))
    assert alone["a"] is LIKE["a"]
    back = loads(LIKE, {**tree, "b": FULL["b"]}, keep="d~1e|more")
    assert_same(back["b"]["d/e"], np.zeros(1, "f4"))


def test_keep_sees_the_new_names():
    back = loads(LIKE, STATE, rename=RENAME, keep="^a$")
    assert_same(back, {**FULL, "a": np.zeros(2, "f4")})
    fails("keep= has a pattern that matches no leaf", jopt.load_state_dict, LIKE, STATE,
          rename=RENAME, keep="^x$")  # fmt: skip


def test_keeping_errors():
    call = jopt.load_state_dict
    text = fails("keep= has a pattern that matches no leaf", call, LIKE, FULL, keep=["a", "q"])
    assert "expected: one of a, a, b/c" not in text
    assert "expected: one of a, b/c, b/d~1e\n  found:    'q'" in text
    fails("keep= has no valid regular expression", call, LIKE, FULL, keep="(")
    fails("a regular expression, or several", call, LIKE, FULL, keep=3)
    fails("a regular expression, or several", call, LIKE, FULL, keep={"a": "b"})
    data = jopt.to_bytes(FULL)
    fails("keep= goes by what `like` has", jopt.from_bytes, None, data, keep="a")
    fails("cast= goes by what `like` has", jopt.from_bytes, None, data, cast=True)
    shapes = jax.eval_shape(lambda: LIKE)
    fails("no value to keep, at\n  a: a shape", call, shapes, FULL, keep="a")
    gone = {**LIKE, "a": jnp.zeros(2)}
    jax.jit(lambda x: x + 1, donate_argnums=0)(gone["a"])
    fails("no value to keep, at\n  a: an array that was donated", call, gone, FULL, keep="a")
    assert_same(call(gone, FULL), FULL)


def test_the_counts_of_leaves_that_are_kept():
    tx = transform()
    state, p = trained(tx)
    skipping = transform(skips="scale")
    some = {**grads(), "scale": None}
    _, idle = skipping.update(some, jopt.extend(skipping, state, p), p)
    for like in (tx.init(p), idle):
        back = loads(like, jopt.state_dict(idle), keep="^adamw/")
        assert_same(back["adamw"], like["adamw"])
    back = loads(idle, jopt.state_dict(state), keep="leaf_count/")
    assert_same(back["adamw"]["leaf_count"], idle["adamw"]["leaf_count"])
    assert_same(back["adamw"]["mu"], state["adamw"]["mu"])


def test_the_report():
    like = {**LIKE, "n": jnp.int32(0), "new": jnp.zeros(4), "s": jnp.zeros((2, 2))}
    tree = {**STATE, "n": np.int64(7), "s": np.ones(3, "f4"), "old": 1, "h": "text", "lr": 1.0}
    rename = {**RENAME, "^h": "held"}
    back, report = loads(like, tree, rename=rename, keep=["^held", "lr"], cast=True, strict=False)
    assert_same(back, {**FULL, "n": np.int32(7), "new": np.zeros(4, "f4"),
                       "s": np.zeros((2, 2), "f4")})  # fmt: skip
    assert report == Report(
        loaded=("a", "b/c", "b/d~1e", "n"),
        kept=("held", "lr"),
        renamed=(("h", "held"), ("x", "a"), ("y/c", "b/c"), ("z", "b/d~1e")),
        casts=report.casts,
        differences=report.differences,
    )
    assert report.cast == ("n",)
    assert (report.missing, report.unexpected, report.unfit) == (("new",), ("old",), ("s",))
    assert not report.ok
    assert str(report).splitlines() == [
        "4 leaves loaded, 3 differences",
        "  renamed       h -> held",
        "  renamed       x -> a",
        "  renamed       y/c -> b/c",
        "  renamed       z -> b/d~1e",
        "  kept          held",
        "  kept          lr",
        "  cast          n: int64 -> int32",
        "  missing       new: expected float32 (4,), found nothing",
        "  unexpected    old: expected nothing, found int",
        "  shape         s: expected (2, 2), found (3,)",
    ]
    changes = {"rename": rename, "keep": ["^held", "lr"], "cast": True}
    assert tuple(differences(like, tree, **changes)) == report.differences


def test_a_long_report_is_cut():
    _, report = loads({}, {f"w{i:02}": np.zeros(1) for i in range(30)}, strict=False)
    lines = str(report).splitlines()
    assert lines[0] == "0 leaves loaded, 30 differences"
    assert lines[-1] == "                ... and 18 more"
    assert len(lines) == 1 + 12 + 1
    assert len(report.unexpected) == 30


def test_a_file_that_fits_reports_so():
    state, _ = trained()
    data = jopt.to_bytes(state, tx=transform())
    back, report = jopt.from_bytes(transform().init(params()), data, tx=transform(), strict=False)
    assert_same(back, state)
    assert report.ok
    assert str(report) == "17 leaves loaded, 0 differences"
    tree, report = jopt.from_bytes(None, data, strict=False)
    assert_same(tree, jopt.state_dict(state))
    assert len(report.loaded) == 17


def test_configuration_and_leaves_in_one_error():
    state, p = trained()
    data = jopt.to_bytes({"state": state, "params": p}, tx=transform())
    tx = jopt.adamw(1e-2, amsgrad=True)
    like = {"state": tx.init(p), "params": {**p, "scale": jnp.zeros(2)}}
    text = fails("another configuration of the transform", jopt.from_bytes, like, data, tx=tx)
    for line in (
        "  adamw/groups/no_decay: expected nothing, found {'freeze': False, ",
        "  adamw/options/amsgrad: expected True, found False",
        "  clip_by_global_norm: expected nothing, found {",
        "\nthe state does not fit `like`: 7 differences\n",
        "  shape         params/scale: expected (2,), found ()",
        "  missing       state/adamw/nu_max/scale: expected float32 (), found nothing",
        f"  expected: {tx!r}\n  found:    {transform()!r}\n",
    ):
        assert line in text, text
    _, report = jopt.from_bytes(like, data, tx=tx, strict=False)
    assert "adamw/options/amsgrad: expected True, found False" in report.configuration
    assert report.unfit == ("params/scale",)
    assert not report.ok
    bare = jopt.to_bytes(FULL)
    text = fails("does not say which transform", jopt.from_bytes, {}, bare, tx=tx)
    assert "the state does not fit `like`: 3 differences" in text
    _, report = jopt.from_bytes(LIKE, bare, tx=tx, strict=False)
    assert report.configuration == (
        "the checkpoint does not say which transform its state belongs to",
    )


ODD = [
    None, 3, "text", [], [{"b": 3}], {"a": {"b": "text"}}, {"a": None}, {1: 2.0, "a": 3},
    {"adamw": {"hyperparams": 3}}, {"adamw": {"hyperparams": {"default": "text"}}},
    {"adamw": {"count": "3", "leaf_count": [1]}}, {"adamw": {"count": {}, "hyperparams": []}},
    {"adamw": {"schedules": {"default": {"learning_rate": 3}}, "mu": "mu", "leaf_count": None}},
]  # fmt: skip
UNFIT = [
    jnp.tanh, {"adamw": {"mu": object()}}, {"w": torch.ones(2)}, {"w": np.array(["a"])},
    collections.defaultdict(int, {1: np.ones(1), "a": np.ones(1)}), {"k": jax.random.key(0)},
]  # fmt: skip


@pytest.mark.parametrize("tree", ODD, ids=repr)
def test_odd_trees_are_told_apart_in_both_places(tree):
    like = jopt.adamw().init(params())
    text = fails("does not fit `like`", jopt.load_state_dict, like, tree)
    assert "adamw/mu/dense/w: expected float32 (3, 4), found nothing" in text
    fails("does not fit `like`", jopt.load_state_dict, tree, like)
    back, _ = jopt.load_state_dict(like, tree, strict=False)
    assert_same(back, like)


@pytest.mark.parametrize("tree", UNFIT, ids=lambda t: str(type(t)))
def test_what_is_no_data_is_refused_in_both_places(tree):
    told = "jax cannot flatten a defaultdict" if isinstance(tree, collections.defaultdict) else ""
    fails(told or "the state has leaves that no", jopt.load_state_dict, LIKE, tree)
    fails(told or "`like` has leaves that no checkpoint", jopt.load_state_dict, tree, FULL)


def test_a_state_that_is_loaded_while_tracing_is_a_constant():
    back = jax.jit(lambda x: jopt.load_state_dict({"w": x}, {"w": np.ones(2, "f4")}))(jnp.zeros(2))
    assert_same(back, {"w": np.ones(2, "f4")})
