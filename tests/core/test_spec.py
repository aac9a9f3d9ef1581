"""What a spec declares: ranges of numbers, shapes of slots, and what may be called what."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jopt
from jopt.core.groups import SHARED
from jopt.core.spec import NODE_KEYS, REGISTRY
from jopt.transforms.noise import ALSO
from tests.catalog import CATALOG
from tests.core.helpers import error

ends = st.floats(-10, 10) | st.sampled_from([-math.inf, math.inf])
brackets = st.tuples(st.sampled_from("[("), st.sampled_from("])"))


@given(st.tuples(ends, ends).map(sorted), brackets, st.floats())
def test_a_range_is_its_interval(interval, kind, value):
    (low, high), (left, right) = interval, kind
    hyper = jopt.Hyper("x", f"{left}{low}, {high}{right}")
    inside = (low <= value if left == "[" else low < value) and (
        value <= high if right == "]" else value < high
    )
    assert hyper.allows(value) == inside
    if inside:
        hyper.check("t", value)
    else:
        with pytest.raises(jopt.ConfigError, match="t: x is out of range"):
            hyper.check("t", value)


@given(st.floats(allow_nan=False))
def test_nan_is_in_no_range_and_all_else_is_in_the_widest(value):
    assert jopt.Hyper("x", "[-inf, inf]").allows(value)
    with pytest.raises(jopt.ConfigError):
        jopt.Hyper("x", "[-inf, inf]").check("t", math.nan)


@pytest.mark.parametrize("value", [True, "1", None, [1.0], np.ones(2), 1j])
def test_what_is_not_a_number(value):
    with pytest.raises(jopt.ConfigError, match="t: x of group 'g' is not a number"):
        jopt.Hyper("x").check("t", value, "g")


def test_traced_numbers_are_taken_on_trust():
    @jax.jit
    def init(rate):
        return jopt.sgd(rate).init({"w": jnp.ones(2)})

    state = init(0.25)
    assert float(state["sgd"]["hyperparams"]["default"]["learning_rate"]) == 0.25


@given(st.lists(st.integers(0, 5), max_size=4).map(tuple))
def test_shape_rules(shape):
    def of(rule):
        return jopt.Slot("s", shape=rule).shape_for(shape, {"block": 2})

    assert of("like") == shape
    assert of("scalar") == ()
    assert of(lambda s, options: (len(s), options["block"])) == (len(shape), 2)
    if len(shape) >= 2:
        assert of("row") == (*shape[:-1], 1)
        assert of("column") == (*shape[:-2], 1, shape[-1])
        assert np.broadcast_shapes(of("row"), of("column")) == shape


@pytest.mark.parametrize("name", sorted(NODE_KEYS))
def test_names_that_a_slot_cannot_have(name):
    with error(jopt.ConfigError, f"mine: a slot cannot be called {name!r}"):
        jopt.Spec("mine", slots=(jopt.Slot(name),))


def test_a_rule_of_ones_own_in_ten_lines():
    spec = jopt.Spec(
        "signum_of_a_test",
        (jopt.Hyper("learning_rate", "[0, inf)"), jopt.Hyper("beta", "[0, 1)")),
        (jopt.Slot("m"), jopt.Slot("rows", shape="row", init=2.0)),
        counts=True,
    )

    def rule(g, s, p, h):
        m = h.beta * s.m + (1 - h.beta) * g
        return -h.learning_rate * jnp.sign(m), {"m": m, "rows": s.rows + h.t}

    tx = jopt.leafwise(spec, rule, learning_rate=0.5, beta=0.9)
    one = {"w": jnp.ones((2, 3))}
    updates, state = tx.update(one, tx.init(one), one)
    np.testing.assert_array_equal(updates["w"], np.full((2, 3), np.float32(-0.5)))
    np.testing.assert_array_equal(state["signum_of_a_test"]["rows"]["w"], [[3.0], [3.0]])
    del REGISTRY["signum_of_a_test"]


def test_a_slot_may_start_from_a_number_or_the_parameter():
    spec = jopt.Spec(
        "starts_of_a_test",
        (jopt.Hyper("start"),),
        (jopt.Slot("from_number", init="start"), jopt.Slot("from_p", init=lambda p: 2 * p)),
    )
    tx = jopt.leafwise(
        spec,
        lambda g, s, p, h: (-g, vars(s)),
        start=0.25,
        groups={"b": jopt.group("^b", start=0.75)},
    )
    node = tx.init({"a": jnp.ones(2), "b": jnp.full(2, 3.0)})["starts_of_a_test"]
    np.testing.assert_array_equal(node["from_number"]["a"], [0.25, 0.25])
    np.testing.assert_array_equal(node["from_number"]["b"], [0.75, 0.75])
    np.testing.assert_array_equal(node["from_p"]["b"], [6.0, 6.0])
    del REGISTRY["starts_of_a_test"]


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_optimizer_declares_what_it_takes(entry):
    spec, tx = REGISTRY[entry.name], entry.factory()
    declared = {h.name for h in spec.hypers} | set(spec.options)
    declared |= {also for also, name in ALSO.items() if name in declared}
    assert set(tx.config) <= declared | SHARED
    assert all(isinstance(h.allows(0.0), bool) for h in spec.hypers)
    assert dataclasses.is_dataclass(spec)
