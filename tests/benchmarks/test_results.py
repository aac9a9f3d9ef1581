"""The figures that the docs show are those that were measured, and within their budgets."""

from pathlib import Path

import pytest

from tests.benchmarks import page
from tests.benchmarks.beside_optax import above, in_order
from tests.benchmarks.budgets import BUDGETS, table, verdicts
from tests.benchmarks.cases import CASES
from tests.benchmarks.compiled import SECONDS, merged
from tests.benchmarks.reports import read

RESULTS = Path(__file__).parent / "results" / "compiled.json"
DOCS = Path(__file__).parents[2] / "docs"
ROWS = read(RESULTS)
BESIDE = read(RESULTS.parent / "beside_optax.json")

MORE = {("noisy_sgd", "kernels")}
"""What costs more than in optax: see the page."""


def test_every_budget_of_counts_is_met():
    counted = [bound for bound in BUDGETS if bound.column not in SECONDS]
    found = list(verdicts(counted, ROWS))
    assert len(found) == len(counted)
    assert all(verdict.holds for verdict in found), table(counted, ROWS)


def test_every_update_was_measured():
    measured = {(row["case"], row["by"]) for row in ROWS if row["target"] == "h100"}
    assert measured == {(name, by) for name, case in CASES.items() for by in case.steps}


def test_the_file_holds_no_seconds_and_is_in_order():
    assert not any(column in row for row in ROWS for column in SECONDS)
    assert merged(ROWS[::-1], []) == ROWS


@pytest.mark.parametrize("target", dict.fromkeys(row["target"] for row in ROWS))
def test_the_page_shows_the_tables(target):
    assert page.table(ROWS, target) in (DOCS / "performance.md").read_text()


def test_no_optimizer_costs_more_than_in_optax():
    assert {(case, column) for case, column, *_ in above(BESIDE)} == MORE
    assert not any(column in row for row in BESIDE for column in SECONDS)
    assert in_order(BESIDE[::-1]) == BESIDE
    assert page.table(BESIDE, "h100") in (DOCS / "performance.md").read_text()
