"""Prints what L-BFGS costs on the problems of Moré, Garbow and Hillstrom, beside SciPy and torch.

Run from the repository root: `python -m tests.benchmarks.mgh_table [name ...]`. All in float64,
until no entry of the gradient is above 1e-8 or the method gives up.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.optimize
import torch

import jopt
from tests.oracles.mgh import BY_NAME, PROBLEMS, Problem

TOLERANCE = 1e-8


class Outcome(NamedTuple):
    """Where a method ended: the value, the largest entry of the gradient, the evaluations."""

    value: float
    grad_norm: float
    evaluations: int


def by_jopt(problem: Problem, **arguments: Any) -> Outcome:
    """`jopt.minimize` as it comes, but for the tolerance."""
    start = np.array(problem.start, float)
    found = jopt.minimize(problem.value, start, tolerance_grad=TOLERANCE, **arguments)
    return Outcome(float(found.value), float(found.grad_norm), int(found.evaluations))


def by_scipy(problem: Problem) -> Outcome:
    """SciPy's L-BFGS-B, stopped by the gradient alone."""
    found = scipy.optimize.minimize(
        lambda x: [np.asarray(v, float) for v in problem.value_and_grad(x)],
        np.array(problem.start, float),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": TOLERANCE, "ftol": 0, "maxiter": 15000, "maxfun": 50000},
    )
    return Outcome(float(found.fun), float(np.max(np.abs(found.jac))), int(found.nfev))


def by_torch(problem: Problem) -> Outcome:
    """torch's LBFGS with a strong Wolfe search, `step` after `step`."""
    x = torch.tensor(problem.start, dtype=torch.float64)
    x.grad = torch.zeros_like(x)
    optimizer = torch.optim.LBFGS(
        [x], line_search_fn="strong_wolfe", tolerance_grad=TOLERANCE, tolerance_change=1e-12
    )

    def closure() -> torch.Tensor:
        value, grad = problem.value_and_grad(x.numpy())
        x.grad = torch.tensor(np.asarray(grad))
        return torch.tensor(float(value), dtype=torch.float64)

    for _ in range(1000):
        before = x.clone()
        optimizer.step(closure)
        value, grad = problem.value_and_grad(x.numpy())
        if float(np.max(np.abs(grad))) <= TOLERANCE or torch.equal(x, before):
            break
    evaluations = optimizer.state[x]["func_evals"]
    return Outcome(float(value), float(np.max(np.abs(grad))), evaluations)


def row(problem: Problem) -> str:
    """One line of the table."""
    cells = [f"`{problem.name}`", str(len(problem.start))]
    for found in (by_jopt(problem), by_scipy(problem), by_torch(problem)):
        mark = "" if found.grad_norm <= TOLERANCE else " *"
        cells += [f"{found.value:.7g}", f"{found.evaluations}{mark}"]
    return f"| {' | '.join(cells)} |"


HEADER = """\
| problem | n | jopt value | evals | SciPy value | evals | torch value | evals |
|---|---|---|---|---|---|---|---|"""


def main(names: list[str]) -> None:
    """Print the table, of all problems or of those named."""
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    sys.stdout.write(f"{HEADER}\n")
    for problem in [BY_NAME[n] for n in names] or PROBLEMS:
        sys.stdout.write(f"{row(problem)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
