"""Laws of compositions that hypothesis draws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

import jopt
from jopt.testing import LAWS
from jopt.testing.subject import SHAPES, Subject
from tests.laws.at_random import compositions, unless_taken
from tests.sharding.layouts import Case
from tests.sharding.test_every_layout import assert_types_stand_still

HELD = ("jit", "scan", "structure", "shapes", "pickles", "resumes", "zeros", "numbers", "sharded")


def hold(law: Callable[[jopt.Transform], None], examples: int) -> None:
    """A law of so many compositions."""
    none = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    settings(max_examples=examples, suppress_health_check=none)(
        given(compositions)(lambda tx: unless_taken(lambda: law(tx)))
    )()


def types_stand_still(tx: jopt.Transform) -> None:
    assert_types_stand_still(Case(tx, dtype="float32"))


@pytest.mark.parametrize("examples", [2, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("x64")
def test_on_explicit_axes_every_array_stays_where_it_lies(examples):
    hold(types_stand_still, examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD)
def test_laws_hold(name):
    hold(lambda tx: LAWS[name](Subject(tx, SHAPES)), 8)
