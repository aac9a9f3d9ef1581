"""Numbers are found and edited wherever a state stands: inside optax, flax and plain containers."""

import collections
import dataclasses
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState

import jopt
from tests.dropin.common import assert_identical

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
ADAMW = jopt.adamw(0.125)


@dataclasses.dataclass
class Plain:
    """A dataclass that jax does not know."""

    step: int
    held: Any


@flax.struct.dataclass
class Struct:
    """One that it does."""

    held: Any
    name: str = flax.struct.field(pytree_node=False, default="run")


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


# What holds the state of one optimizer, and how the optimizer is then called.
HOLDERS = {
    "chain": (lambda tx: optax.chain(optax.clip(1.0), tx).init(PARAMS), "1/adamw"),
    "named_chain": (lambda tx: optax.named_chain(("main", tx)).init(PARAMS), "main/adamw"),
    "MultiSteps": (lambda tx: optax.MultiSteps(tx, 2).init(PARAMS), "adamw"),
    "apply_if_finite": (lambda tx: optax.apply_if_finite(tx, 3).init(PARAMS), "adamw"),
    "masked": (lambda tx: optax.masked(tx, {"kernel": True, "bias": False}).init(PARAMS), "adamw"),
    "partition": (lambda tx: optax.partition({"all": tx}, "all").init(PARAMS), "all/adamw"),
    "conditionally": (lambda tx: optax.conditionally_transform(tx, bool).init(PARAMS), "adamw"),
    "two of them": (
        lambda tx: optax.MultiSteps(optax.chain(optax.apply_if_finite(tx, 1)), 2).init(PARAMS),
        "0/adamw",
    ),
    "TrainState": (lambda tx: TrainState.create(apply_fn=abs, params=PARAMS, tx=tx), "adamw"),
    "struct": (lambda tx: Struct(tx.init(PARAMS)), "held/adamw"),
    "dataclass": (lambda tx: Plain(3, [tx.init(PARAMS)]), "held/0/adamw"),
    "list": (lambda tx: [1.0, None, tx.init(PARAMS)], "2/adamw"),
    "named tuple": (lambda tx: Pair("text", tx.init(PARAMS)), "second/adamw"),
    "frozen": (lambda tx: FrozenDict(tx.init(PARAMS)), "adamw"),
    "ordered": (lambda tx: collections.OrderedDict(tx.init(PARAMS)), "adamw"),
    "a run": (lambda tx: {"params": PARAMS, "opt_state": tx.init(PARAMS)}, "adamw"),
    "jopt, optax, jopt": (
        lambda tx: jopt.skip_nonfinite(jopt.chain(optax.apply_if_finite(tx, 2))).init(PARAMS),
        "skip_nonfinite/foreign/adamw",
    ),
    "jopt, chain, wrapper": (
        lambda tx: jopt.chain(optax.chain(optax.clip(1.0), jopt.accumulate(tx, 2))).init(PARAMS),
        "foreign/1/accumulate/adamw",
    ),
}


def kinds(x):
    """The types of all containers, from the outermost on."""
    if dataclasses.is_dataclass(x):
        inside = [getattr(x, f.name) for f in dataclasses.fields(x)]
    elif isinstance(x, dict | FrozenDict):
        inside = [*x.values()]
    else:
        inside = [*x] if isinstance(x, tuple | list) else []
    return [type(x), *(kinds(child) for child in inside)]


@pytest.mark.parametrize("name", HOLDERS)
def test_a_number_is_found_and_edited_in(name):
    make, label = HOLDERS[name]
    held = make(ADAMW)
    found = jopt.hyperparams(held)
    assert list(found) == [label]
    assert float(found[label]["default"]["learning_rate"]) == 0.125
    for chosen in (None, label):
        edited = jopt.set_hyperparams(held, label=chosen, learning_rate=0.5)
        assert kinds(edited) == kinds(held)
        assert float(jopt.hyperparams(edited)[label]["default"]["learning_rate"]) == 0.5
        back = jopt.set_hyperparams(edited, learning_rate=0.125)
        assert str(back) == str(held)
    assert float(jopt.hyperparams(held)[label]["default"]["learning_rate"]) == 0.125


def test_an_edit_inside_optax_acts_at_the_next_step():
    tx = optax.chain(optax.clip(1.0), optax.apply_if_finite(jopt.sgd(0.5), 3))
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=0.25)
    updates, _ = jax.jit(tx.update)(PARAMS, state, PARAMS)
    assert_identical(updates, jax.tree.map(lambda p: -0.25 * p, PARAMS))


def test_two_of_a_name_are_told_apart_by_where_they_stand():
    tx = optax.partition({"a": jopt.sgd(0.5), "b": jopt.sgd(0.25)}, {"kernel": "a", "bias": "b"})
    state = tx.init(PARAMS)
    with pytest.raises(jopt.ConfigError, match=r"found:    a/sgd, b/sgd"):
        jopt.set_hyperparams(state, learning_rate=1.0)
    edited = jopt.hyperparams(jopt.set_hyperparams(state, label="b/sgd", learning_rate=1.0))
    rates = {k: float(v["default"]["learning_rate"]) for k, v in edited.items()}
    assert rates == {"a/sgd": 0.5, "b/sgd": 1.0}


def test_labels_differ_where_the_fields_that_they_leave_out_do():
    held = Pair({"opt_state": ADAMW.init(PARAMS), "inner_state": jopt.sgd(0.5).init(PARAMS)}, ())
    again = Pair({"opt_state": ADAMW.init(PARAMS), "inner_state": ADAMW.init(PARAMS)}, ())
    assert list(jopt.hyperparams(held)) == ["first/adamw", "first/sgd"]
    assert list(jopt.hyperparams(again)) == ["first/adamw", "first/adamw_2"]
    edited = jopt.set_hyperparams(again, label="first/adamw_2", learning_rate=0.5)
    assert_identical(edited.first["opt_state"], again.first["opt_state"])
    assert (
        float(edited.first["inner_state"]["adamw"]["hyperparams"]["default"]["learning_rate"])
        == 0.5
    )


INJECTED = {
    "alone": (lambda tx: tx.init(PARAMS), "inject_hyperparams"),
    "chain": (lambda tx: optax.chain(optax.clip(1.0), tx).init(PARAMS), "1/inject_hyperparams"),
    "jopt's chain": (lambda tx: jopt.chain(tx).init(PARAMS), "foreign/inject_hyperparams"),
    "deep": (
        lambda tx: jopt.accumulate(
            jopt.chain(optax.MultiSteps(tx, 2), jopt.clip_by_norm(1.0)), 2
        ).init(PARAMS),
        "accumulate/foreign/inject_hyperparams",
    ),
}


@pytest.mark.parametrize("name", INJECTED)
@pytest.mark.parametrize("factory", [optax.sgd, optax.adam], ids=["sgd", "adam"])
def test_injected_numbers_are_read_and_written(name, factory):
    make, label = INJECTED[name]
    state = make(optax.inject_hyperparams(factory)(0.5))
    assert float(jopt.hyperparams(state)[label]["default"]["learning_rate"]) == 0.5
    edited = jopt.set_hyperparams(state, learning_rate=-0.25)  # optax has no range
    assert jax.tree.structure(edited) == jax.tree.structure(state)
    assert float(jopt.hyperparams(edited)[label]["default"]["learning_rate"]) == -0.25
    changed = [
        jax.tree_util.keystr(path)
        for (path, x), y in zip(
            jax.tree.leaves_with_path(state), jax.tree.leaves(edited), strict=True
        )
        if not np.array_equal(x, y)
    ]
    assert len(changed) == 1
    assert "learning_rate" in changed[0]


def test_an_injected_number_acts_inside_a_jopt_chain():
    tx = jopt.chain(optax.inject_hyperparams(optax.sgd)(0.5))
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=0.25)
    updates, _ = tx.update(PARAMS, state, PARAMS)
    assert_identical(updates, jax.tree.map(lambda p: -0.25 * p, PARAMS))


def test_what_is_injected_into_jopt_is_edited_where_it_comes_from():
    tx = optax.inject_hyperparams(jopt.sgd)(0.5)
    state = tx.init(PARAMS)
    assert list(jopt.hyperparams(state)) == ["inject_hyperparams", "inject_hyperparams/sgd"]
    edited = jopt.set_hyperparams(state, learning_rate=0.25)
    assert float(edited.hyperparams["learning_rate"]) == 0.25
    assert type(edited) is type(state)
    assert_identical(edited.inner_state, state.inner_state)


def test_plain_numbers_that_optax_lets_stand():
    state = optax.inject_hyperparams(optax.sgd)(0.5).init(PARAMS)
    state.hyperparams["learning_rate"] = 0.125
    assert jopt.hyperparams(state)["inject_hyperparams"]["default"]["learning_rate"] == 0.125
    edited = jopt.set_hyperparams(state, learning_rate=0.25)
    assert edited.hyperparams["learning_rate"] == 0.25


@pytest.mark.parametrize("name", INJECTED)
def test_a_scheduled_number_of_optaxs_is_read_and_not_written(name):
    make, label = INJECTED[name]
    schedule = optax.linear_schedule(0.5, 0.0, 10)
    state = make(optax.inject_hyperparams(optax.adam)(schedule, b1=0.75))
    assert float(jopt.hyperparams(state)[label]["default"]["learning_rate"]) == 0.5
    with pytest.raises(jopt.ConfigError, match="learning_rate follows a schedule"):
        jopt.set_hyperparams(state, learning_rate=0.1)
    edited = jopt.set_hyperparams(state, b1=0.5)
    assert float(jopt.hyperparams(edited)[label]["default"]["b1"]) == 0.5


def test_numbers_in_flax_s_boxes_stay_in_them():
    optimizer = nnx.Optimizer(
        nnx.Linear(2, 2, rngs=nnx.Rngs(0)), optax.chain(optax.clip(1.0), ADAMW), wrt=nnx.Param
    )
    for held in (optimizer.opt_state, nnx.state(optimizer)):
        assert list(jopt.hyperparams(held)) == ["1/adamw"]
        edited = jopt.set_hyperparams(held, learning_rate=0.5)
        assert jax.tree.structure(edited) == jax.tree.structure(held)
        number = jopt.hyperparams(edited)["1/adamw"]["default"]["learning_rate"]
        assert isinstance(number, nnx.Variable)
        assert float(number[...]) == 0.5


def test_averages_are_found_inside_optax():
    tx = optax.chain(optax.clip(9.0), jopt.swa(jopt.sgd(0.5)))
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    after = optax.apply_updates(PARAMS, updates)
    assert_identical(jopt.eval_params(state, PARAMS), after)


OFF = "One that was switched off"


@pytest.mark.parametrize(
    ("tx", "name", "off"),
    [
        (jopt.sgd(0.5), "momentum", True),
        (jopt.chain(mine=jopt.rmsprop(0.5)), "momentum", True),
        (optax.chain(jopt.sgd(0.5)), "momentum", True),
        (jopt.adam(0.5), "momentum", False),
        (jopt.chain(mine=jopt.adam(0.5)), "momentum_decay", False),
        (optax.inject_hyperparams(optax.sgd)(0.5), "momentum", False),
        (jopt.chain(optax.clip(1.0), jopt.adam(0.5)), "max_delta", False),
    ],
)
def test_only_what_can_be_switched_off_is_said_to_be(tx, name, off):
    with pytest.raises(jopt.ConfigError, match=f"there is no hyperparameter '{name}'") as caught:
        jopt.set_hyperparams(tx.init(PARAMS), **{name: 0.5})
    assert (OFF in str(caught.value)) is off


@pytest.mark.parametrize(
    "other", [PARAMS, optax.adam(0.1).init(PARAMS), [], 3, ADAMW, "adamw", None, (None, PARAMS)]
)
def test_what_holds_no_state_is_refused(other):
    for reader in (jopt.hyperparams, jopt.set_hyperparams):
        with pytest.raises(jopt.StateError, match="there is no state of a jopt transform in this"):
            reader(other)


def test_parameters_of_telling_names_are_no_numbers():
    params = {"hyperparams": {"default": {"learning_rate": jnp.ones(2)}}, "count": jnp.ones(2)}
    for tx in (ADAMW, jopt.swa(ADAMW), jopt.accumulate(ADAMW, 2)):
        found = jopt.hyperparams(tx.init(params))
        assert [label.split("/")[-1] for label in found] == ["adamw"]
