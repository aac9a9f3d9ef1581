"""Bounds, and the figures beside them."""

import pytest

from tests.benchmarks.budgets import BUDGETS, TIMES, Bound, library, named, table, verdicts, within
from tests.benchmarks.cases import CASES
from tests.benchmarks.compiled import COLUMNS
from tests.benchmarks.targets import TARGETS
from tests.benchmarks.times import TIMED

ROWS = [
    {"target": "h100", "case": "adamw", "by": "jopt", "kernels": 17, "compile": 3.0},
    {"target": "h100", "case": "adamw", "by": "optax", "kernels": 147, "compile": 6.0},
    {"target": "cpu", "case": "adamw", "by": "jopt", "kernels": 400, "compile": 1.0},
]


@pytest.mark.parametrize(
    ("found", "limit", "holds"),
    [(28.04, 28.0, True), (28.06, 28.0, False), (150, 150, True), (150.6, 150, False)],
)
def test_a_figure_is_rounded_to_the_digits_of_its_bound(found, limit, holds):
    assert within(found, limit) is holds


def test_bounds_meet_their_own_target_and_library():
    bounds = [
        Bound("adamw", "kernels", 16, 10),
        Bound("adamw", "kernels", 500, 300, target="cpu"),
        Bound("adamw", "compile", 0.5, of="optax"),
        Bound("adamw", "compile", 0.5, of="torch"),
        Bound("muon_adamw", "kernels", 1),
    ]
    found = list(verdicts(bounds, ROWS))
    assert [(v.found, v.holds, v.aimed) for v in found] == [
        (17, False, False),
        (400, True, False),
        (0.5, True, None),
    ]


def test_a_bound_on_what_was_left_out_says_nothing():
    assert not list(verdicts([Bound("adamw", "trace", 1.0)], ROWS))


def test_the_table_says_what_holds():
    bounds = [Bound("adamw", "kernels", 16), Bound("adamw", "compile", 0.7, 0.4, of="optax")]
    assert table(bounds, ROWS) == (
        "| update | figure | measured | at most | tried for |  |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| adamw | kernels | 17 | 16 |  | MISSED |\n"
        "| adamw | compile / optax's | 0.5 | 0.7 | 0.4 | holds, not what was tried for |"
    )


def test_a_way_of_ours_is_told_from_the_plain_one():
    assert named("adamw int8", "jopt, pallas") == "adamw int8, pallas"
    assert named("adamw", "jopt") == named("adamw", "optax") == "adamw"
    assert library("jopt, pallas") == "jopt"


def test_every_bound_is_about_something_measured():
    for bound in BUDGETS:
        assert bound.target in TARGETS
        assert bound.column in COLUMNS
        assert {bound.by, bound.of or bound.by} <= set(CASES[bound.case].steps)
    assert {bound.case for bound in TIMES} == set(TIMED)
