"""What the compiled steps cost on the CPU, where every change can be checked.

Kernels, bytes and temporaries come out the same every time, so that a bound is a promise; see
`budgets.COUNTS`. They are counted on a tree of two layers, which compiles in seconds.
"""

import jax
import pytest

from tests.benchmarks import budgets
from tests.benchmarks.cases import CASES
from tests.benchmarks.compiled import compiled, row

pytestmark = pytest.mark.optimized  # bits or costs of more than one program are compared

SLOTS = {
    "adamw": 2,
    "clip+adamw": 2,
    "clip+adamw B": 2,
    "clip+adamw stacked": 2,
    "accumulate": 3,  # and the sum of the gradients
    "skip+clip+adamw": 2,
    "monitor+adamw": 2,
    "monitor+clip+adamw": 2,
    "adafactor": 2,  # the means of rows and of columns
    "muon_adamw": 2,  # AdamW's two; Muon has one
    "lbfgs": 5,  # both histories in an array each; last gradient, direction and iteration
    "adamw bfloat16": 2,
    "adamw int8": 4,  # codes and scales of two slots
    "stochastic": 2,
    "masters": 3,
    "lion": 1,
    "lamb": 2,
    "prodigy": 4,
}
"""How many leaves a state has for each parameter, at most."""

SCALARS = 12
"""And how many numbers beside them: counters, hyperparameters."""

SMALL = {"lbfgs": 4, "stochastic": 1, "monitor+adamw": 4, "monitor+clip+adamw": 4}
"""And how many small arrays: the tables of the history's products, a key, a monitor's norms."""


@pytest.mark.parametrize("name", CASES)
def test_a_state_has_a_leaf_for_each_slot_and_a_dozen_scalars(name):
    case = CASES[name]
    shapes = case.shapes("small")
    params = jax.tree.leaves(shapes)
    state = jax.tree.leaves(jax.eval_shape(case.steps["jopt"]().init, shapes))
    assert len(state) <= SLOTS[name] * len(params) + SCALARS + SMALL.get(name, 0)


@pytest.mark.parametrize("name", CASES)
def test_a_second_step_finds_the_program_of_the_first(name):
    # jit traces anew if a shape, a dtype or a weak type differs from what it has seen.
    case = CASES[name]
    step, shapes = case.steps["jopt"](), case.shapes("small")
    before = (shapes, jax.eval_shape(step.init, shapes))
    after = jax.eval_shape(step.run, *before, shapes)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


@pytest.mark.sampled
@pytest.mark.parametrize("name", dict.fromkeys(bound.case for bound in budgets.COUNTS))
def test_a_compiled_step_stays_within_its_bounds(name):
    case = CASES[name]
    shapes = case.shapes("small")
    rows = []
    for by in {bound.by for bound in budgets.COUNTS if bound.case == name}:
        step = case.steps[by]()
        figures = row(step, shapes, [compiled(step, shapes, "cpu")])
        rows.append({"target": "cpu", "case": name, "by": by, **figures})
    found = list(budgets.verdicts(budgets.COUNTS, rows))
    assert len(found) == sum(bound.case == name for bound in budgets.COUNTS)
    assert all(verdict.holds for verdict in found), budgets.table(budgets.COUNTS, rows)
