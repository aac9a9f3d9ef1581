"""A transform recorded with its state: numbers may differ, choices may not."""

import optax
import pytest

import jopt
from jopt.checkpoint.config import configuration
from tests.checkpoint.helpers import assert_same, fails, params, transform

NO_DECAY = {"no_decay": jopt.group("b$", weight_decay=0.0)}


def data(tx):
    return jopt.to_bytes(tx.init(params()), tx=tx)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (jopt.adamw(1e-3), jopt.adamw(3e-4, b1=0.8, weight_decay=0.0)),
        (jopt.adamw(1e-3), jopt.adamw(jopt.schedules.linear(1.0, 0.0, 10))),
        (transform(0.1), transform(0.2)),
        (
            jopt.adamw(groups={"g": jopt.group("b$", weight_decay=0.0)}),
            jopt.adamw(groups={"g": jopt.group("b$", weight_decay=0.1)}),
        ),
        (jopt.chain(optax.sgd(0.1)), jopt.chain(optax.sgd(0.2))),
    ],
)
def test_other_numbers_are_no_difference(old, new):
    state = old.init(params())
    assert_same(jopt.from_bytes(None, data(old), tx=new), jopt.state_dict(state))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            jopt.adamw(1e-3),
            jopt.adamw(1e-3, amsgrad=True),
            (
                "  adamw/options/amsgrad: expected True, found False\n"
                "  adamw/slots: expected ['mu', 'nu', 'nu_max'], found ['mu', 'nu']\n"
            ),
        ),
        (
            jopt.adamw(),
            jopt.adamw(maximize=True),
            "  adamw/options/maximize: expected True, found False\n",
        ),
        (
            jopt.adamw(groups=NO_DECAY),
            jopt.adamw(),
            (
                "  adamw/groups/no_decay: expected nothing, found {'freeze': False, "
                "'match': 'b$', 'own': ['weight_decay']}\n"
            ),
        ),
        (
            jopt.adamw(groups=NO_DECAY),
            jopt.adamw(groups={"no_decay": jopt.group("b", weight_decay=0.0)}),
            "  adamw/groups/no_decay/match: expected 'b', found 'b$'\n",
        ),
        (
            jopt.sgd(0.1),
            jopt.sgd(0.1, momentum=0.9),
            "\n  sgd/switched_off: expected [], found ['",
        ),
        (jopt.adamw(), jopt.adam(), "  adam: expected {'transform': 'adam', "),
    ],
)
def test_other_choices_are_an_error_that_shows_both(old, new, line):
    text = fails("another configuration of the transform", jopt.from_bytes, None, data(old), tx=new)
    assert line in text
    assert f"expected: {new!r}" in text
    assert f"found:    {old!r}" in text
    assert "strict=False" in text


def test_a_checkpoint_without_a_transform_cannot_be_compared():
    tx = jopt.sgd(0.1)
    bare = jopt.to_bytes(tx.init(params()))
    text = fails("does not say which transform", jopt.from_bytes, None, bare, tx=tx)
    assert "pass tx= when saving" in text


def test_only_transforms_are_recorded():
    fails("tx= takes a transform", jopt.to_bytes, {}, tx=optax.sgd(0.1))


def test_functions_are_recorded_by_name_without_addresses():
    def biases(path, leaf):
        return leaf.ndim == 1

    def plan(step):
        return 0.1

    tx = jopt.adamw(plan, groups={"b": jopt.group(biases, weight_decay=0.0)})
    assert configuration(tx)["adamw"]["groups"]["b"]["match"].endswith(".biases>")
    assert b" at 0x" not in data(tx)
    jopt.from_bytes(None, data(tx), tx=tx)
