"""Leaves in several groups: whose numbers they have, and what multiplies them."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.core.helpers import error, params, same, train

BIAS = jopt.group("bias$", weight_decay=0.0)
HEAD = jopt.group("^head/", learning_rate=jopt.times(10), b1=0.8)
TX = jopt.adamw(1e-2, weight_decay=0.5, groups={"no_decay": BIAS, "head": HEAD})


def test_a_leaf_in_two_groups_has_the_numbers_of_both():
    one = params()
    got, _ = train(TX, one, TX.init(one), range(3))
    for alone, pick in (
        (jopt.adamw(1e-2, weight_decay=0.0), lambda t: t["encoder"]["bias"]),
        (jopt.adamw(1e-1, b1=0.8, weight_decay=0.5), lambda t: t["head"]["kernel"]),
        (jopt.adamw(1e-1, b1=0.8, weight_decay=0.0), lambda t: t["head"]["bias"]),
        (jopt.adamw(1e-2, weight_decay=0.5), lambda t: (t["encoder"]["kernel"], t["scale"])),
    ):
        whole, _ = train(alone, one, alone.init(one), range(3))
        for a, b in zip(jax.tree.leaves(pick(got)), jax.tree.leaves(pick(whole)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_only_their_own_numbers_are_in_the_state():
    state = TX.init(params())["adamw"]
    assert jax.tree.map(float, state["times"]) == {"head": {"learning_rate": 10.0}}
    assert {k: set(v) for k, v in state["hyperparams"].items()} == {
        "default": {"learning_rate", "b1", "b2", "eps", "weight_decay"},
        "no_decay": {"weight_decay"},
        "head": {"b1"},
    }
    assert state["given"].shape == (8,)


def rate(state, group="head"):
    return float(jopt.hyperparams(state)["adamw"][group]["learning_rate"])


def test_a_product_follows_edits_of_what_it_multiplies_and_of_the_factor():
    one, tx = (
        params(),
        jopt.sgd(0.5, groups={"head": jopt.group("^head/", learning_rate=jopt.times(4))}),
    )
    state = jopt.set_hyperparams(tx.init(one), learning_rate=0.25)
    step = jax.jit(tx.update)
    moved = step(one, state, one)[0]["head"]["bias"]
    np.testing.assert_array_equal(moved, -1.0 * one["head"]["bias"])
    state = jopt.set_hyperparams(state, group="head", learning_rate=jopt.times(2))
    np.testing.assert_array_equal(
        step(one, state, one)[0]["head"]["bias"], -0.5 * one["head"]["bias"]
    )
    assert step._cache_size() == 1
    assert float(jopt.hyperparams(state)["sgd"]["head"]["learning_rate"]) == 0.5


def test_factors_multiply_each_other_schedules_and_other_groups_numbers():
    groups = {
        "all": jopt.group(".", learning_rate=jopt.times(0.5)),
        "head": jopt.group("^head/", learning_rate=jopt.times(8)),
        "bias": jopt.group("bias$", learning_rate=lambda t: 3 + t),
        "scale": jopt.group("scale", learning_rate=7.0),
    }
    one = params()
    tx = jopt.sgd(lambda t: 1 + t, groups=groups)
    state, ones = tx.init(one), jax.tree.map(jnp.ones_like, one)
    for t in range(2):
        updates, state = tx.update(ones, state, one)
        found = jax.tree.map(lambda u: -float(u.ravel()[0]), updates)
        assert found == {
            "encoder": {"kernel": 0.5 * (1 + t), "bias": 0.5 * (3 + t)},
            "head": {"kernel": 4.0 * (1 + t), "bias": 4.0 * (3 + t)},
            "scale": 3.5,
        }


def test_a_factor_that_was_changed_last_rules_and_an_edit_stands():
    one = params()
    state = jopt.set_hyperparams(TX.init(one), group="head", learning_rate=jopt.times(3))
    _, state = TX.update(one, state, one)
    assert rate(state) == pytest.approx(0.03)
    other = jopt.adamw(
        1e-2,
        weight_decay=0.5,
        groups={
            "no_decay": BIAS,
            "head": jopt.group("^head/", learning_rate=jopt.times(5), b1=0.8),
        },
    )
    _, state = other.update(one, state, one)
    assert rate(state) == pytest.approx(0.05)
    assert rate(jopt.extend(TX, state, one)) == pytest.approx(0.1)
    assert rate(jopt.from_bytes(TX.init(one), jopt.to_bytes(state, tx=other))) == pytest.approx(0.1)
    assert rate(jopt.from_bytes(None, jopt.to_bytes(state, tx=other))) == pytest.approx(0.05)


def test_extend_makes_a_factor_of_a_number_and_back():
    one = params()
    plain = jopt.adamw(1e-2, groups={"head": jopt.group("^head/", learning_rate=0.5)})
    factor = jopt.adamw(1e-2, groups={"head": jopt.group("^head/", learning_rate=jopt.times(3))})
    state = plain.init(one)
    with pytest.raises(jopt.StateError, match="learning_rate of group 'head' does not fit"):
        factor.update(one, state, one)
    state = jopt.extend(factor, state, one)
    assert rate(state) == pytest.approx(0.03)
    assert rate(jopt.extend(plain, state, one)) == 0.5


def test_what_leaves_in_several_groups_use_is_told_with_the_transform():
    one = params()
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.ema(jopt.route(jopt.sgd(0.1), x=(".", TX))))
    view = jopt.hyperparams(tx.init(one), tx, one)["route/adamw"]
    assert set(view) == {"default", "no_decay", "head", "no_decay+head"}
    found = {k: float(v) for k, v in view["no_decay+head"].items()}
    assert found["learning_rate"] == pytest.approx(0.1)
    assert (found["weight_decay"], found["b1"]) == (0.0, pytest.approx(0.8))
    with pytest.raises(jopt.ConfigError, match="tx= goes with params="):
        jopt.hyperparams(tx.init(one), tx)


def test_freeze_wins():
    groups = {
        "frozen": jopt.group("^head/", freeze=True),
        "a": jopt.group("bias$", learning_rate=0.1),
        "b": jopt.group("^head/bias$", learning_rate=0.2),
    }
    one = params()
    tx = jopt.adam(groups=groups)
    state = tx.init(one)
    assert set(state["adam"]["mu"]) == {"encoder", "scale"}
    updates, _ = tx.update(one, state, one)
    assert not np.any(updates["head"]["bias"])


def test_treewise_slots_and_norms_are_of_the_leaves_in_the_same_groups():
    groups = {"head": jopt.group("^head/", max_norm=1.0), "bias": jopt.group("bias$", max_norm=1.0)}
    one = params()
    tx = jopt.clip_by_global_norm(1e9, groups=groups)
    got, _ = tx.update(one, tx.init(one))
    want, _ = jopt.clip_by_global_norm(1.0).update(
        one["head"]["bias"], jopt.clip_by_global_norm(1.0).init(one["head"]["bias"])
    )
    same(got["head"]["bias"], want)


def test_two_values_of_one_number():
    groups = {
        "biases": jopt.group("bias$", learning_rate=0.5),
        "head": jopt.group("^head/", learning_rate=1e-2),
    }
    with error(
        jopt.GroupError,
        """
        adamw: groups 'biases' and 'head' both set learning_rate of one leaf
          at:       head/bias
          expected: one value
          found:    0.5 and 0.01
          Narrow one pattern, or let one multiply: jopt.times(...).
        """,
    ):
        jopt.adamw(1e-3, groups=groups).init(params())


def test_one_value_that_two_groups_have_may_be_edited_in_both_only():
    groups = {k: jopt.group(k, learning_rate=0.5) for k in ("bias$", "^head/")}
    one = params()
    tx = jopt.sgd(0.1, groups=groups)
    state = tx.init(one)
    half = jopt.set_hyperparams(state, group="bias$", learning_rate=0.25)
    with pytest.raises(jopt.StateError, match="learning_rate of one leaf is two numbers"):
        tx.update(one, half, one)
    assert np.isnan(jax.jit(tx.update)(one, half, one)[0]["head"]["bias"]).all()
    both = jopt.set_hyperparams(half, group="^head/", learning_rate=0.25)
    np.testing.assert_array_equal(
        tx.update(one, both, one)[0]["head"]["bias"], -0.25 * one["head"]["bias"]
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: jopt.times(-1.0), "times: factor is out of range"),
        (lambda: jopt.times(float("nan")), "times: factor is out of range"),
        (lambda: jopt.times("a"), "times: factor is not a number"),
        (lambda: jopt.times(lambda t: t), "times: factor"),
        (lambda: jopt.adam(jopt.times(2.0)), "learning_rate is so many times nothing"),
        (
            lambda: jopt.adam(groups={"a": jopt.group("a", b1=jopt.times(2))}),
            "b1 of group 'a' is out",
        ),
        (
            lambda: jopt.sgd(0.1, groups={"a": jopt.group("a", momentum=jopt.times(2))}),
            "It is switched off here",
        ),
        (
            lambda: jopt.adam(
                groups={k: jopt.group(k, b1=jopt.times(1.1)) for k in ("bias", "head")}
            ).init(params()),
            "b1 is out of range where groups multiply it",
        ),
        (
            lambda: jopt.adam(
                groups={
                    "a": jopt.group("bias", b1=0.5),
                    "b": jopt.group("head", b2=0.5),
                    "a+b": jopt.group("encoder", b2=0.6),
                }
            ).init(params()),
            "two sets of groups would both be called 'a\\+b'",
        ),
        (
            lambda: jopt.set_hyperparams(TX.init(params()), group="head", learning_rate=1.0),
            "learning_rate of group 'head' is a factor",
        ),
        (
            lambda: jopt.set_hyperparams(TX.init(params()), learning_rate=jopt.times(1.0)),
            "learning_rate of group 'default' is no factor",
        ),
        (
            lambda: jopt.set_hyperparams(
                jopt.adam(groups={"a": jopt.group("h", b1=jopt.times(1.1))}).init(params()), b1=0.95
            ),
            "b1 of group 'a' is out of range",
        ),
    ],
)
def test_what_does_not_multiply(make, text):
    with pytest.raises(
        jopt.ConfigError if "both" not in text and "where" not in text else jopt.GroupError,
        match=text,
    ):
        make()


def test_factors_print_compare_hash_and_pickle():
    assert repr(jopt.times(0.5)) == "jopt.times(factor=0.5)"
    assert pickle.loads(pickle.dumps(TX)) == TX
    assert hash(jopt.times(0.5)) == hash(jopt.times(np.float32(0.5)))
    assert jopt.times(0.5) != jopt.times(2)


def test_the_derivative_by_a_factor():
    one = {"w": jnp.float32(2.0)}

    def moved(factor):
        tx = jopt.sgd(0.5, groups={"w": jopt.group("w", learning_rate=jopt.times(factor))})
        return tx.update(one, tx.init(one), one)[0]["w"]

    assert float(jax.grad(moved)(3.0)) == -1.0
