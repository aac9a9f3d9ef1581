"""Steps go down, and are made from the gradient at hand."""

from __future__ import annotations

import pytest

from jopt.testing import steps
from jopt.testing.law import BrokenError
from tests.laws.harness import each, subject


def from_the_first_step(law, entry, broken):
    """The law holds; of what rests at first it is broken, and says so."""
    if entry.begins_at_once:
        law(subject(entry))
    else:
        with pytest.raises(BrokenError, match=broken):
            law(subject(entry))


@each
def test_the_first_step_goes_against_the_gradient(entry):
    from_the_first_step(steps.descends, entry, "the first step is zero")


@each
def test_a_step_depends_on_the_gradient_that_it_is_given(entry):
    from_the_first_step(steps.answers, entry, "step 1 is the same")


@each
def test_a_hundred_steps_on_a_bowl_end_lower(entry):
    steps.quadratic(subject(entry))
