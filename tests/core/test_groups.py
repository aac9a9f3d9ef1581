"""Parameter groups: matching, inheriting, freezing, and every way to get them wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import error, params, same, train


def test_patterns_are_searched_in_the_whole_path():
    tx = jopt.adamw(1e-3, groups={"biases": jopt.group(r"/bias$", weight_decay=0.0)})
    one = params()
    zeros = jax.tree.map(jnp.zeros_like, one)
    updates, _ = tx.update(zeros, tx.init(one), one)
    assert not np.any(updates["encoder"]["bias"])
    assert not np.any(updates["head"]["bias"])
    assert np.all(updates["encoder"]["kernel"] != 0)
    assert updates["scale"] != 0


def test_predicates_see_path_and_shape_never_values():
    seen = []

    def matrices(path, leaf):
        seen.append((path, leaf))
        return len(leaf.shape) == 2

    tx = jopt.sgd(0.1, groups={"matrices": jopt.group(matrices, learning_rate=0.5)})
    tx.init(params())
    assert dict(seen) == {
        "encoder/bias": jax.ShapeDtypeStruct((2,), jnp.float32),
        "encoder/kernel": jax.ShapeDtypeStruct((3, 2), jnp.float32),
        "head/bias": jax.ShapeDtypeStruct((2,), jnp.float32),
        "head/kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32),
        "scale": jax.ShapeDtypeStruct((), jnp.float32),
    }
    one = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    updates, _ = tx.update(one, tx.init(one), one)
    np.testing.assert_array_equal(updates["w"], np.full((2, 2), np.float32(-0.5)))
    np.testing.assert_array_equal(updates["b"], np.full(2, np.float32(-0.1)))


def test_each_group_is_the_optimizer_with_its_numbers():
    one = params()
    tx = jopt.adamw(
        1e-2,
        groups={
            "encoder": jopt.group("^encoder", learning_rate=1e-3, b2=0.9),
            "biases": jopt.group("^head/bias", weight_decay=0.0),
        },
    )
    got, _ = train(tx, one, tx.init(one), range(3))
    for alone, pick in (
        (jopt.adamw(1e-3, b2=0.9), lambda t: t["encoder"]),
        (jopt.adamw(1e-2, weight_decay=0.0), lambda t: t["head"]["bias"]),
        (jopt.adamw(1e-2), lambda t: (t["head"]["kernel"], t["scale"])),
    ):
        whole, _ = train(alone, one, alone.init(one), range(3))
        same(pick(got), pick(whole))


def test_groups_hold_only_their_own_numbers_and_inherit_the_rest():
    tx = jopt.adamw(1e-2, groups={"b": jopt.group("bias", weight_decay=0.0)})
    state = tx.init(params())
    assert set(state["adamw"]["hyperparams"]["b"]) == {"weight_decay"}
    state = jopt.set_hyperparams(state, learning_rate=0.25)
    view = jopt.hyperparams(state)["adamw"]
    assert float(view["b"]["learning_rate"]) == 0.25
    assert float(view["b"]["weight_decay"]) == 0.0
    one = {"bias": jnp.ones(2), "w": jnp.ones(2)}
    updates, _ = tx.update(one, jopt.set_hyperparams(tx.init(one), learning_rate=0.25), one)
    np.testing.assert_allclose(updates["bias"], -0.25, rtol=1e-6)


def test_frozen_leaves_get_a_zero_update_and_no_slots():
    tx = jopt.adamw(1e-2, groups={"frozen": jopt.group("^encoder/", freeze=True)})
    one = params()
    state = tx.init(one)
    assert set(state["adamw"]["mu"]) == {"head", "scale"}
    updates, new = tx.update(jax.tree.map(jnp.ones_like, one), state, one)
    assert not np.any(updates["encoder"]["kernel"])
    same(jopt.apply_updates(one, updates)["encoder"], one["encoder"])
    assert set(new["adamw"]["nu"]) == {"head", "scale"}


def test_frozen_leaves_may_be_integers_and_may_lack_gradients():
    tx = jopt.adamw(1e-2, groups={"frozen": jopt.group("^table", freeze=True)})
    one = {"table": jnp.arange(3), "w": jnp.ones(2)}
    state = tx.init(one)
    nothing = np.zeros(3, jax.dtypes.float0)
    for g in (None, nothing, jnp.zeros(3, jnp.int32)):
        updates, _ = tx.update({"table": g, "w": jnp.ones(2)}, state, one)
        same(jopt.apply_updates(one, updates)["table"], one["table"])


def test_a_group_may_have_its_own_schedule():
    rate = jopt.schedules.linear(0.0, 1.0, 4)
    tx = jopt.sgd(0.5, groups={"b": jopt.group("b", learning_rate=rate)})
    one = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    state, seen = tx.init(one), []
    for _ in range(3):
        updates, state = tx.update({"a": jnp.float32(1), "b": jnp.float32(1)}, state, one)
        seen.append((float(updates["a"]), float(updates["b"])))
    assert seen == [(-0.5, 0.0), (-0.5, -0.25), (-0.5, -0.5)]
    assert float(jopt.hyperparams(state)["sgd"]["b"]["learning_rate"]) == 0.75


def test_a_group_that_matches_nothing():
    tx = jopt.adamw(1e-3, groups={"norms": jopt.group(r"^norm/", weight_decay=0.0)})
    with error(
        jopt.GroupError,
        """
        adamw: group 'norms' matches no leaf
          expected: a leaf that '^norm/' matches
          found:    leaves encoder/bias, encoder/kernel, head/bias, head/kernel, scale
          Patterns are searched in the whole path; fix it or drop the group.
        """,
    ):
        tx.init(params())


def test_a_leaf_that_two_routes_take():
    tx = jopt.route(jopt.sgd(0.1), biases=("bias$", jopt.sgd(1.0)), head=("^head/", jopt.sgd(2.0)))
    with error(
        jopt.GroupError,
        """
        route: 'biases' and 'head' both match one leaf
          at:       head/bias
          Narrow one pattern: a leaf has one route.
        """,
    ):
        tx.init(params())


def test_a_hyperparameter_that_the_optimizer_does_not_have():
    with error(
        jopt.ConfigError,
        """
        sgd: group 'b' sets 'weight_decai', which this optimizer does not have
          expected: learning_rate, weight_decay
          found:    weight_decai
        """,
    ):
        jopt.sgd(0.1, groups={"b": jopt.group("b", weight_decai=0.1)})


def test_a_hyperparameter_that_is_switched_off():
    with error(
        jopt.ConfigError,
        """
        sgd: group 'b' sets 'dampening', which this optimizer does not have
          expected: learning_rate, weight_decay
          found:    dampening
          It is switched off here: build sgd(..., dampening=...) to have it.
        """,
    ):
        jopt.sgd(0.1, groups={"b": jopt.group("b", dampening=0.9)})


def test_a_number_of_a_group_out_of_range():
    with error(
        jopt.ConfigError,
        """
        adamw: b1 of group 'b' is out of range
          expected: [0, 1)
          found:    1.0
        """,
    ):
        jopt.adamw(1e-3, groups={"b": jopt.group("b", b1=1.0)})


def test_a_pattern_that_does_not_compile():
    with pytest.raises(jopt.ConfigError, match=r"group: '\(bias' is no regular expression"):
        jopt.group("(bias")


def test_a_match_that_selects_nothing():
    with error(
        jopt.ConfigError,
        """
        group: `match` selects leaves
          expected: a regular expression, a predicate of (path, leaf) or path, or a tree of bools
          found:    3
        """,
    ):
        jopt.group(3)


def test_a_frozen_group_with_numbers():
    with error(
        jopt.ConfigError,
        """
        group: a frozen group has no hyperparameters
          found:    learning_rate
          Drop them, or drop freeze=True.
        """,
    ):
        jopt.group("b", freeze=True, learning_rate=0.1)


@pytest.mark.parametrize("name", ["default", "", 3])
def test_names_that_a_group_cannot_have(name):
    with error(
        jopt.ConfigError,
        f"""
        sgd: a group cannot be called {name!r}
          'default' is every leaf that no group matches; pick another name.
        """,
    ):
        jopt.sgd(0.1, groups={name: jopt.group("b")})


def test_groups_are_a_dict_of_groups():
    with pytest.raises(jopt.ConfigError, match=r"sgd: groups= takes a dict"):
        jopt.sgd(0.1, groups=[jopt.group("b")])
    with pytest.raises(jopt.ConfigError, match=r"sgd: group 'b' is no group"):
        jopt.sgd(0.1, groups={"b": {"learning_rate": 0.1}})


def test_a_groups_own_momentum_gives_every_leaf_its_buffer():
    tx = jopt.sgd(0.1, groups={"b": jopt.group("b", momentum=0.9)})
    state = tx.init({"a": jnp.ones(2), "b": jnp.ones(2)})
    assert sorted(state["sgd"]["momentum_buffer"]) == ["a", "b"]
    numbers = jopt.hyperparams(state)["sgd"]
    assert float(numbers["default"]["momentum"]) == 0.0
    assert float(numbers["b"]["momentum"]) == pytest.approx(0.9)
