"""Every mistake is one clear error, and none of them touches the state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.catalog import CATALOG
from tests.core.helpers import error, params, same
from tests.laws.harness import each, params_of

ONE = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
OTHER = {"w": jnp.ones(4), "b": jnp.ones(3)}
TX = jopt.adamw(1e-3)


@pytest.mark.parametrize("value", [-1e-3, float("nan"), np.float32(-1.0), jnp.float32("nan")])
def test_a_learning_rate_out_of_range(value):
    shown = repr(np.asarray(value).item())
    with error(
        jopt.ConfigError,
        f"""
        adamw: learning_rate is out of range
          expected: [0, inf)
          found:    {shown}
        """,
    ):
        jopt.adamw(value)


@pytest.mark.parametrize("name", ["b1", "b2"])
@pytest.mark.parametrize("value", [1.0, -0.1, 1, 2.5, float("inf"), float("nan")])
@pytest.mark.parametrize("factory", [jopt.adam, jopt.adamw])
def test_betas_outside_their_range(factory, name, value):
    with error(
        jopt.ConfigError,
        f"""
        {factory.__name__}: {name} is out of range
          expected: [0, 1)
          found:    {value!r}
        """,
    ):
        factory(**{name: value})


@pytest.mark.parametrize("value", ["0.1", True, [0.1], np.ones(2)])
def test_something_that_is_no_number(value):
    with error(
        jopt.ConfigError,
        f"""
        sgd: learning_rate is not a number
          expected: a number in [0, inf), or a schedule step -> number
          found:    {value!r} ({type(value).__name__})
        """,
    ):
        jopt.sgd(value)


@each
def test_every_number_of_every_optimizer_refuses_nan(entry):
    view = jopt.hyperparams(entry.make().init(params_of(entry)))
    for name in view[entry.name]["default"]:
        with pytest.raises(
            jopt.ConfigError, match=f"{entry.name}: {name} is (out of|not a|a number of)"
        ):
            entry.make(**{name: float("nan")})


# What goes wrong in an update: the call, the kind of error, and its text.
BAD_UPDATES = {
    "another structure": (
        lambda s: TX.update({"w": ONE["w"]}, s, ONE),
        jopt.TreeError,
        """
        adamw: the updates have another structure than the parameters
          at:       b
          expected: a leaf
          found:    none
        """,
    ),
    "a leaf too many": (
        lambda s: TX.update({**ONE, "c": ONE["b"], "d": ONE["b"]}, s, ONE),
        jopt.TreeError,
        """
        adamw: the updates have another structure than the parameters (1 more leaf differs)
          at:       c
          expected: no leaf
          found:    one
        """,
    ),
    "another shape": (
        lambda s: TX.update({**ONE, "w": jnp.ones((3, 2))}, s, ONE),
        jopt.TreeError,
        """
        adamw: a gradient has another shape than its parameter
          at:       w
          expected: (2, 3)
          found:    (3, 2)
        """,
    ),
    "complex gradient": (
        lambda s: TX.update({**ONE, "b": jnp.ones(3, jnp.complex64)}, s, ONE),
        jopt.TreeError,
        """
        adamw: a gradient has another kind of dtype than its parameter
          at:       b
          expected: floating, as the parameter's float32
          found:    complex64
        """,
    ),
    "integer gradient": (
        lambda s: TX.update({**ONE, "b": jnp.ones(3, jnp.int32)}, s, ONE),
        jopt.TreeError,
        """
        adamw: a gradient has another kind of dtype than its parameter
          at:       b
          expected: floating, as the parameter's float32
          found:    int32
        """,
    ),
    "a string for a gradient": (
        lambda s: TX.update({**ONE, "b": "steep"}, s, ONE),
        jopt.TreeError,
        """
        adamw: a leaf is no array
          at:       b
          expected: an array
          found:    str
          Take the arrays out first, e.g. equinox.filter(model, equinox.is_array).
        """,
    ),
    "parameters forgotten": (
        lambda s: TX.update(ONE, s),
        jopt.TreeError,
        """
        adamw: update needs the parameters because of weight_decay of group 'default'
          found:    0.01
          Call tx.update(grads, state, params).
        """,
    ),
    "the state of another transform": (
        lambda s: jopt.sgd(0.1).update(ONE, s, ONE),
        jopt.StateError,
        """
        sgd: this state belongs to another transform
          expected: a dict with sgd
          found:    a dict with adamw
          Use the state that this transform's init or update returned.
        """,
    ),
    "the state of a chain": (
        lambda s: TX.update(ONE, {**s, "clip_by_value": {}}, ONE),
        jopt.StateError,
        """
        adamw: this state belongs to another transform
          expected: a dict with adamw
          found:    a dict with adamw, clip_by_value
          Use the state that this transform's init or update returned.
        """,
    ),
    "no state": (
        lambda s: TX.update(ONE, None, ONE),
        jopt.StateError,
        """
        adamw: this state belongs to another transform
          expected: a dict with adamw
          found:    NoneType
          Use the state that this transform's init or update returned.
        """,
    ),
    "the state of another configuration": (
        lambda s: jopt.adamw(1e-3, amsgrad=True).update(ONE, s, ONE),
        jopt.StateError,
        """
        adamw: this state was made by another configuration
          expected: count, mu, nu, nu_max
          found:    count, mu, nu
        """,
    ),
    "the state of other parameters": (
        lambda s: TX.update(
            {"w": jnp.ones(4), "b": ONE["b"]}, s, {"w": jnp.ones(4), "b": ONE["b"]}
        ),
        jopt.StateError,
        """
        adamw: 'mu' in the state does not have the shape it should
          at:       w
          expected: (4,)
          found:    (2, 3)
        """,
    ),
    "gradients and state swapped": (
        lambda s: TX.update(s, ONE, ONE),
        jopt.StateError,
        """
        adamw: this state belongs to another transform
          expected: a dict with adamw
          found:    a dict with b, w
          Use the state that this transform's init or update returned.
        """,
    ),
    "an integer parameter": (
        lambda s: TX.init({"table": {"ids": jnp.arange(3)}}),
        jopt.TreeError,
        """
        adamw: a parameter cannot be optimized
          at:       table/ids
          expected: a floating or complex dtype
          found:    int32
          Keep it out, or freeze it with jopt.group(..., freeze=True).
        """,
    ),
    "a boolean parameter": (
        lambda s: TX.init({"mask": jnp.ones(3, bool)}),
        jopt.TreeError,
        """
        adamw: a parameter cannot be optimized
          at:       mask
          expected: a floating or complex dtype
          found:    bool
          Keep it out, or freeze it with jopt.group(..., freeze=True).
        """,
    ),
    "a function among the parameters": (
        lambda s: TX.init({"act": jnp.tanh, "w": ONE["w"]}),
        jopt.TreeError,
        f"""
        adamw: a leaf is no array
          at:       act
          expected: an array
          found:    {type(jnp.tanh).__name__}
          Take the arrays out first, e.g. equinox.filter(model, equinox.is_array).
        """,
    ),
}


@pytest.mark.parametrize(("call", "kind", "text"), BAD_UPDATES.values(), ids=BAD_UPDATES)
def test_bad_input_is_one_clear_error_and_leaves_the_state_as_it_was(call, kind, text):
    state = jax.tree.map(np.array, TX.init(ONE))  # which could be written to
    before = jax.tree.map(np.copy, state)
    with error(kind, text):
        call(state)
    same(state, before)
    # The run goes on as if nothing had happened.
    fresh = TX.init(ONE)
    same(TX.update(ONE, state, ONE), TX.update(ONE, fresh, ONE))


@pytest.mark.parametrize(("call", "kind", "text"), BAD_UPDATES.values(), ids=BAD_UPDATES)
def test_the_same_errors_under_jit(call, kind, text):
    with error(kind, text):
        jax.jit(call)(TX.init(ONE))


def test_errors_carry_their_facts_for_programs():
    with pytest.raises(jopt.TreeError) as caught:
        TX.update({**ONE, "w": jnp.ones((3, 2))}, TX.init(ONE), ONE)
    found = caught.value
    assert (found.transform, found.path) == ("adamw", "w")
    assert (found.expected, found.found) == ("(2, 3)", "(3, 2)")


def test_containers_of_another_kind():
    one = [jnp.ones(2), jnp.ones(2)]
    tx = jopt.sgd(0.1)
    with pytest.raises(jopt.TreeError, match="leaves in other containers") as caught:
        tx.update(tuple(one), tx.init(one), one)
    assert "expected: PyTreeDef([*, *])" in str(caught.value)
    assert "found:    PyTreeDef((*, *))" in str(caught.value)


def test_the_first_of_several_transforms_to_complain_is_named():
    tx = jopt.chain(jopt.clip_by_value(1.0), jopt.adamw(0.1))
    with pytest.raises(jopt.TreeError, match=r"^adamw: update needs the parameters"):
        tx.update(ONE, tx.init(ONE))


def test_a_complex_parameter_where_there_is_no_rule_for_it():
    spec = jopt.Spec("real_of_a_test", complex="no")
    tx = jopt.leafwise(spec, lambda g, s, p, h: (-g, {}))
    with error(
        jopt.TreeError,
        """
        real_of_a_test: this optimizer has no rule for complex parameters
          at:       w
          expected: a real dtype
          found:    complex64
        """,
    ):
        tx.init({"w": jnp.ones(2, jnp.complex64)})


@pytest.mark.parametrize(
    "entry", [e for e in CATALOG if not e.complex], ids=lambda entry: entry.name
)
def test_complex_parameters_are_refused_where_the_catalogue_says_so(entry):
    with pytest.raises(jopt.TreeError, match="has no rule for complex parameters"):
        entry.make().init(params_of(entry, "complex64"))


def test_params_of_the_helpers_are_fit():
    same(TX.init(params()), TX.init(params()))


@pytest.mark.parametrize("value", [1e-3, None])
def test_an_argument_that_does_not_exist(value):
    with pytest.raises(
        jopt.ConfigError, match="adamw: there is no argument 'lr'\n  expected: lear"
    ):
        jopt.adamw(lr=value)
