"""Reading and editing the numbers in a state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import error, params, same, train


def test_the_view_is_whole_and_costs_no_copy():
    state = jopt.chain(
        jopt.clip_by_value(2.0), jopt.sgd(0.5, groups={"b": jopt.group("bias", weight_decay=0.25)})
    ).init(params())
    view = jopt.hyperparams(state)
    assert jax.tree.map(float, view) == {
        "clip_by_value": {"default": {"max_value": 2.0}},
        "sgd": {
            "default": {"learning_rate": 0.5, "weight_decay": 0.0},
            "b": {"learning_rate": 0.5, "weight_decay": 0.25},
        },
    }
    assert (
        view["sgd"]["default"]["learning_rate"]
        is (state["sgd"]["hyperparams"]["default"]["learning_rate"])
    )


def test_an_edit_acts_at_the_next_step_and_leaves_the_rest_alone():
    tx, one = jopt.adamw(1e-3), params()
    one, state = train(tx, one, tx.init(one), range(2))
    edited = jopt.set_hyperparams(state, learning_rate=0.125, b1=0.5)
    assert float(state["adamw"]["hyperparams"]["default"]["learning_rate"]) == float(
        np.float32(1e-3)
    )
    same({**edited["adamw"], "hyperparams": 0}, {**state["adamw"], "hyperparams": 0})
    view = jopt.hyperparams(edited)["adamw"]["default"]
    assert (float(view["learning_rate"]), float(view["b1"])) == (0.125, 0.5)


def test_a_group_of_its_own_number_is_edited_alone():
    tx = jopt.sgd(0.5, groups={"b": jopt.group("bias", learning_rate=0.25)})
    state = jopt.set_hyperparams(tx.init(params()), group="b", learning_rate=0.125)
    view = jopt.hyperparams(state)["sgd"]
    assert float(view["b"]["learning_rate"]) == 0.125
    assert float(view["default"]["learning_rate"]) == 0.5


def test_labels_choose_among_transforms():
    tx = jopt.chain(first=jopt.sgd(0.5), second=jopt.sgd(0.25))
    state = jopt.set_hyperparams(tx.init(params()), label="second", learning_rate=0.125)
    view = jopt.hyperparams(state)
    assert float(view["first"]["default"]["learning_rate"]) == 0.5
    assert float(view["second"]["default"]["learning_rate"]) == 0.125


def test_numbers_are_float32_or_float64_under_x64():
    one = {"w": jnp.ones(2, jnp.bfloat16)}
    state = jopt.sgd(0.1).init(one)
    assert state["sgd"]["hyperparams"]["default"]["learning_rate"].dtype == jnp.float32
    with jax.enable_x64(True):
        state = jopt.sgd(0.1).init({"w": jnp.ones(2, jnp.float32)})
        assert state["sgd"]["hyperparams"]["default"]["learning_rate"] == np.float64(0.1)


@pytest.mark.parametrize(
    "value", [0.25, 1, np.float32(0.25), np.float64(0.25), np.array(0.25), jnp.float32(0.25)]
)
def test_any_kind_of_number_will_do(value):
    state = jopt.set_hyperparams(jopt.sgd(0.5).init(params()), learning_rate=value)
    found = jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]
    assert found.dtype == jnp.float32
    assert float(found) == float(value)
    assert not found.weak_type


def test_edits_trace():
    tx, one = jopt.sgd(0.5), params()

    @jax.jit
    def halved(state, rate):
        return jopt.set_hyperparams(state, learning_rate=rate / 2)

    state = halved(tx.init(one), 0.25)
    assert float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]) == 0.125


def test_a_scheduled_number_reads_as_the_one_that_the_next_step_uses():
    tx = jopt.sgd(jopt.schedules.step(1.0, 2, 0.5))
    one, seen = params(), []
    state = tx.init(one)
    for seed in range(4):
        one, state = train(tx, one, state, [seed])
        seen.append(float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]))
    assert seen == [1.0, 0.5, 0.5, 0.25]


def test_an_unknown_label():
    with error(
        jopt.ConfigError,
        """
        set_hyperparams: no transform is called 'adam'
          expected: sgd
          found:    adam
        """,
    ):
        jopt.set_hyperparams(jopt.sgd(0.1).init(params()), label="adam", learning_rate=0.1)


def test_an_unknown_name():
    with error(
        jopt.ConfigError,
        """
        set_hyperparams: there is no hyperparameter 'momentum'
          expected: learning_rate, weight_decay
          found:    momentum
          One that was switched off (None or 0) at construction is not in the state.
        """,
    ):
        jopt.set_hyperparams(jopt.sgd(0.1).init(params()), momentum=0.9)


def test_a_name_that_several_transforms_have():
    tx = jopt.chain(jopt.sgd(0.1), jopt.sgd(0.2))
    with error(
        jopt.ConfigError,
        """
        set_hyperparams: several transforms have 'learning_rate'
          found:    sgd, sgd_2
          Say which: label='sgd'.
        """,
    ):
        jopt.set_hyperparams(tx.init(params()), learning_rate=0.1)


def test_an_unknown_group():
    with error(
        jopt.ConfigError,
        """
        sgd: no group is called 'heads'
          expected: default, head
          found:    heads
          Groups that have no number of their own follow 'default'.
        """,
    ):
        tx = jopt.sgd(0.1, groups={"head": jopt.group("head", learning_rate=0.2)})
        jopt.set_hyperparams(tx.init(params()), group="heads", learning_rate=0.1)


def test_a_number_that_the_group_inherits():
    tx = jopt.sgd(0.1, groups={"head": jopt.group("head", learning_rate=0.2)})
    with error(
        jopt.ConfigError,
        """
        sgd: group 'head' inherits weight_decay from 'default'
          Give it its own at construction: jopt.group(..., weight_decay=...).
        """,
    ):
        jopt.set_hyperparams(tx.init(params()), group="head", weight_decay=0.1)


@pytest.mark.parametrize("value", [-1.0, float("nan"), np.float32(-1.0), jnp.float32(-1.0)])
def test_a_number_out_of_range(value):
    with error(
        jopt.ConfigError,
        f"""
        sgd: learning_rate is out of range
          expected: [0, inf)
          found:    {float(value)}
        """,
    ):
        jopt.set_hyperparams(jopt.sgd(0.1).init(params()), learning_rate=value)


def test_the_range_is_known_under_any_label_and_in_every_group():
    named = jopt.chain(mine=jopt.sgd(0.1)).init(params())
    with pytest.raises(jopt.ConfigError, match="mine: learning_rate is out of range"):
        jopt.set_hyperparams(named, learning_rate=-1.0)
    second = jopt.chain(jopt.sgd(0.1), jopt.sgd(0.1)).init(params())
    with pytest.raises(jopt.ConfigError, match="sgd_2: learning_rate is out of range"):
        jopt.set_hyperparams(second, label="sgd_2", learning_rate=-1.0)


def test_a_label_of_another_optimizer_is_only_a_label():
    borrowed = jopt.chain(grokfast=jopt.trace(0.5)).init(params())
    edited = jopt.set_hyperparams(borrowed, decay=1.0)  # which grokfast's own may not be
    assert edited["grokfast"]["hyperparams"]["default"]["decay"] == 1.0


def test_something_that_is_no_number():
    with error(
        jopt.ConfigError,
        """
        sgd: learning_rate is not a number
          expected: a number in [0, inf), or a schedule step -> number
          found:    'fast' (str)
        """,
    ):
        jopt.set_hyperparams(jopt.sgd(0.1).init(params()), learning_rate="fast")


def test_a_number_that_a_schedule_sets():
    tx = jopt.sgd(jopt.schedules.linear(1.0, 0.0, 10))
    with error(
        jopt.ConfigError,
        """
        sgd: learning_rate follows a schedule, which would overwrite it at the next step
          Build tx with a number, then carry over: state = jopt.extend(tx, state, params).
        """,
    ):
        jopt.set_hyperparams(tx.init(params()), learning_rate=0.1)


@pytest.mark.parametrize("old", [0.5, jopt.schedules.constant(0.5)])
@pytest.mark.parametrize("new", [0.25, jopt.schedules.constant(0.25)])
def test_a_number_becomes_a_schedule_and_the_reverse_by_extend(old, new):
    # The advice of the errors: the moments and the count go on, the number is the new one: it was
    # changed last.
    one = params()
    one, state = train(jopt.adam(old), one, jopt.adam(old).init(one), range(2))
    carried = jopt.extend(jopt.adam(new), state, one)
    same(carried["adam"]["mu"], state["adam"]["mu"])
    same(carried["adam"]["count"], state["adam"]["count"])
    _, after = train(jopt.adam(new), one, carried, [2])
    for state in carried, after:
        assert float(jopt.hyperparams(state)["adam"]["default"]["learning_rate"]) == 0.25


def test_a_state_with_a_schedule_where_the_transform_has_a_number():
    one = params()
    state = jopt.adam(jopt.schedules.constant(0.5)).init(one)
    with error(
        jopt.StateError,
        """
        adam: this state has other numbers: learning_rate of group 'default' does not fit
          expected: a number
          found:    a schedule's memory
          If that is meant, carry it over: state = jopt.extend(tx, state, params).
        """,
    ):
        jopt.adam(0.5).update(one, state, one)


def test_a_state_with_other_groups():
    one = params()
    state = jopt.adam(0.5).init(one)
    tx = jopt.adam(0.5, groups={"b": jopt.group("bias", weight_decay=0.1)})
    with error(
        jopt.StateError,
        """
        adam: this state has other numbers: weight_decay of group 'b' does not fit
          expected: a number
          found:    nothing
          If that is meant, carry it over: state = jopt.extend(tx, state, params).
        """,
    ):
        tx.update(one, state, one)
    view = jopt.hyperparams(jopt.extend(tx, state, one))["adam"]
    assert float(view["b"]["weight_decay"]) == np.float32(0.1)


def test_a_slash_in_a_label_is_not_a_level():
    tx = jopt.chain(**{"a/b": jopt.sgd(0.1), "c": jopt.adam(0.1)})
    state = jopt.set_hyperparams(tx.init(jnp.ones(2)), label="a~1b", learning_rate=0.5)
    assert float(jopt.hyperparams(state)["a~1b"]["default"]["learning_rate"]) == 0.5
