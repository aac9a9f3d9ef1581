"""Rules that say they treat every entry alone do."""

from __future__ import annotations

import pytest

from jopt.core.spec import REGISTRY
from jopt.testing import steps
from jopt.testing.law import BrokenError
from tests.catalog import BY_NAME, CATALOG
from tests.laws.harness import subject


@pytest.mark.parametrize("name", [e.name for e in CATALOG if REGISTRY[e.name].elementwise])
def test_entries_that_change_places_take_their_results_along(name):
    steps.permutation(subject(BY_NAME[name]))


def test_a_rule_that_looks_around_would_be_found():
    entry = BY_NAME["adafactor"]
    assert not REGISTRY[entry.name].elementwise
    with pytest.raises(BrokenError, match="what is moved before three steps"):
        steps.permutation(subject(entry))
