"""Steps go down, and are made from the gradient at hand."""

from __future__ import annotations

import pytest

from jopt.testing import steps
from jopt.testing.law import BrokenError
from tests.laws.harness import each, subject


@each
def test_the_first_step_goes_against_the_gradient(entry):
    if entry.begins_at_once:
        steps.descends(subject(entry))
    else:
        with pytest.raises(BrokenError, match="the first step is zero"):
            steps.descends(subject(entry))


@each
def test_a_step_depends_on_the_gradient_that_it_is_given(entry):
    if entry.begins_at_once:
        steps.answers(subject(entry))
    else:
        with pytest.raises(BrokenError, match="step 1 is the same"):
            steps.answers(subject(entry))


@each
def test_a_hundred_steps_on_a_bowl_end_lower(entry):
    steps.quadratic(subject(entry))
