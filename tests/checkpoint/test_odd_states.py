"""States that somebody has put something else into: a `JoptError` at every door, or it works."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.paths import shown
from tests.checkpoint.helpers import fails

PARAMS = {"w": jnp.ones(3)}
GROUP = {"g": jopt.group("w", weight_decay=0.1)}
TX = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(1e-2, groups=GROUP))
SCHEDULED = jopt.sgd(jopt.schedules.linear(1.0, 0.0, 10))
BAD = {
    "text": "text", "None": None, "list": [1], "empty": {}, "dict": {"a": 1}, "int key": {1: {}},
    "object": object(), "function": jnp.tanh, "matrix": np.ones((2, 2), np.float32),
}  # fmt: skip


def places(node, path=()):
    """Every path of a state, of containers and of leaves."""
    if path:
        yield path
    for key in node if isinstance(node, dict) else ():
        yield from places(node[key], (*path, key))


def put(tree, path, value):
    return {**tree, path[0]: put(tree[path[0]], path[1:], value)} if path else value


DOORS = {
    "load": lambda tx, fresh, odd: jopt.load_state_dict(fresh, odd),
    "loose": lambda tx, fresh, odd: jopt.load_state_dict(fresh, odd, strict=False),
    "like": lambda tx, fresh, odd: jopt.load_state_dict(odd, fresh, cast=True),
    "save": lambda tx, fresh, odd: jopt.to_bytes(odd, tx=tx),
    "update": lambda tx, fresh, odd: tx.update(PARAMS, odd, PARAMS),
    "extend": lambda tx, fresh, odd: jopt.extend(tx, odd, PARAMS),
    "hyperparams": lambda tx, fresh, odd: jopt.hyperparams(odd),
}


@pytest.mark.sampled
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("tx", [TX, SCHEDULED], ids=["adamw", "schedule"])
def test_no_door_raises_anything_else(tx, door):
    fresh = tx.init(PARAMS)
    for path in places(fresh):
        for value in BAD.values():
            with contextlib.suppress(jopt.JoptError):
                DOORS[door](tx, fresh, put(fresh, path, value))
    DOORS[door](tx, fresh, fresh)


ADAMW = "adamw/hyperparams/default"
UPDATE = [
    ("adamw/count", None, "the step count in the state is no whole number\n  at:       count\n"),
    ("adamw/count", "3", "  expected: an int32 of shape ()\n  found:    '3'"),
    ("adamw/count", np.float32(1), "  found:    float32 ()"),
    ("adamw/count", np.zeros(2, np.int32), "  found:    int32 (2,)"),
    (f"{ADAMW}/b1", "x", "adamw: b1 is not a number\n  expected: a number\n  found:    'x'"),
    (ADAMW, [1], "  expected: {group: {name: number}}\n  found:    {'default': [1]"),
    ("adamw/hyperparams", 3, "adamw: 'hyperparams' in this state is not as jopt keeps it"),
    ("adamw/schedules", {"default": {"b1": 1}}, "  expected: {group: {name: memory}}\n"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "text"), UPDATE, ids=[u[0] for u in UPDATE])
def test_update_says_what_is_odd(where, value, text):
    odd = put({**TX.init(PARAMS)}, ("adamw",), {**TX.init(PARAMS)["adamw"], "schedules": {}})
    odd = put(odd, tuple(where.split("/")), value)
    with pytest.raises(jopt.StateError) as caught:
        TX.update(PARAMS, odd, PARAMS)
    assert text in str(caught.value)


def test_extend_says_that_a_node_is_none():
    with pytest.raises(jopt.StateError) as caught:
        jopt.extend(TX, {**TX.init(PARAMS), "clip_by_global_norm": None}, PARAMS)
    assert str(caught.value) == (
        "clip_by_global_norm: its node of the state is no dict\n"
        "  expected: a dict\n  found:    NoneType"
    )


def test_the_paths_are_those_of_the_state():
    assert {"adamw", "adamw/mu/w", ADAMW} < {shown(p) for p in places(TX.init(PARAMS))}


def test_a_masked_array_does_not_lose_its_mask_in_silence():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    assert "w: a masked array" in fails("cannot be in a checkpoint", jopt.to_bytes, {"w": masked})
