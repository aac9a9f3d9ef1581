"""Solves the CUTEst problems of sif2jax by `jopt.minimize` and by SciPy's L-BFGS-B, and compares.

Run from the repository root, with sif2jax installed: `python -m tests.benchmarks.cutest FOLDER`
runs what is not yet in the folder's files, one line of JSON a problem; with `--report` it prints
what they say. `results/cutest` holds what was found. All in float64, n ≤ 1000, until
no entry of the projected gradient is above 1e-8. Solved is a value within
1e-6·max(1, |f|) of the lowest found. Both call the same compiled function, jopt through a callback,
so that its loop is compiled once for all problems of a size; every point they ask for is looked at.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array
from jax.flatten_util import ravel_pytree

import jopt
from tests.benchmarks.reports import say

TOLERANCE = 1e-8
KINDS = {"free": "unconstrained_minimisation_problems", "bounded": "bounded_minimisation_problems"}


Function = Callable[[np.ndarray], tuple[Any, np.ndarray]]
functions: list[Function] = []
"""Value and gradient of the problems so far; a callback knows them by their number."""


def asked(x: Array, which: Array) -> tuple[Array, Array]:
    """Value and gradient at `x`, from outside of the program."""
    like = jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct(x.shape, float)
    found: tuple[Array, Array] = jax.pure_callback(
        lambda x, which: functions[int(which)](np.asarray(x)), like, x, which
    )
    return found


@jax.custom_vjp
def value(x: Array, which: Array) -> Array:
    """The value alone."""
    return asked(x, which)[0]


value.defvjp(asked, lambda grad, along: (along * grad, None))


def by_jopt(function: Function, x0: np.ndarray, box: Any) -> tuple[float, int, str]:
    """Value, evaluations, message."""
    functions.append(function)
    which = len(functions) - 1
    bounds = box and tuple(map(jnp.asarray, box))
    found = jopt.minimize(value, x0, jnp.int32(which), bounds=bounds, tolerance_grad=TOLERANCE)
    return float(found.value), int(found.evaluations), found.message


def by_scipy(function: Function, x0: np.ndarray, box: Any) -> tuple[float, int, str]:
    """The same of SciPy, stopped by the gradient alone."""
    found = scipy.optimize.minimize(
        function,
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=box and scipy.optimize.Bounds(*box),
        options={"gtol": TOLERANCE, "ftol": 0, "maxiter": 15000, "maxfun": 20000},
    )
    return float(found.fun), int(found.nfev), str(found.message)


METHODS = {"jopt": by_jopt, "scipy": by_scipy}


def measure(problem: Any, method: str, bounded: bool) -> dict[str, Any]:
    """One problem by one method."""
    x0, whole = ravel_pytree(problem.y0)
    x0 = np.asarray(x0, float)
    box = None
    if bounded:
        sides = [np.asarray(ravel_pytree(side)[0], float) for side in problem.bounds]
        box = tuple(np.broadcast_to(side, x0.shape) for side in sides)

    @jax.jit
    @jax.value_and_grad
    def compiled(x: Any) -> Any:
        return jnp.asarray(problem.objective(whole(x), problem.args), float).reshape(())

    def function(x: np.ndarray) -> tuple[Any, np.ndarray]:
        if box is not None and not np.all((x >= box[0]) & (x <= box[1])):
            outside.append(x)
        at, grad = compiled(x)
        return np.asarray(at, float), np.asarray(grad, float)

    outside: list[np.ndarray] = []
    compiled(x0)  # before a callback waits for it
    lowest, evaluations, message = METHODS[method](function, x0, box)
    assert not outside
    return {
        "name": problem.name,
        "n": x0.size,
        "value": lowest,
        "evaluations": evaluations,
        "message": message,
    }


def read(path: Path) -> dict[str, Any]:
    """The lines of a file by the problems' names."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def report(folder: Path, kind: str) -> str:
    """Solved by each, and evaluations on what all solved."""
    found = {m: read(folder / f"{kind}_{m}.jsonl") for m in METHODS}
    names = sorted(set.intersection(*(set(rows) for rows in found.values())))
    lowest = {
        n: min(r[n]["value"] for r in found.values() if not math.isnan(r[n]["value"]))
        for n in names
    }
    solved = {
        m: {n for n in names if r[n]["value"] <= lowest[n] + 1e-6 * max(1, abs(lowest[n]))}
        for m, r in found.items()
    }
    both = sorted(set.intersection(*solved.values()))
    lines = [f"{kind}: {len(names)} problems, solved by all {len(both)}"]
    for m, rows in found.items():
        total = sum(rows[n]["evaluations"] for n in both)
        missed = ", ".join(n for n in names if n not in solved[m])
        lines.append(f"{m}: {len(solved[m])} solved, {total} evaluations; missed: {missed}")
    ratios = [
        math.log(found["jopt"][n]["evaluations"] / found["scipy"][n]["evaluations"]) for n in both
    ]
    lines.append(f"evaluations, geometric mean of the ratio: {math.exp(np.mean(ratios)):.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, or print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if given.report:
        for kind in KINDS:
            if read(given.folder / f"{kind}_jopt.jsonl"):
                say(report(given.folder, kind))
        return
    jax.config.update("jax_enable_x64", True)
    import sif2jax

    given.folder.mkdir(exist_ok=True)
    for kind, listed in KINDS.items():
        for problem in getattr(sif2jax, listed):
            if ravel_pytree(problem.y0)[0].size > 1000:
                continue
            for method in METHODS:
                path = given.folder / f"{kind}_{method}.jsonl"
                if problem.name not in read(path):
                    row = measure(problem, method, kind == "bounded")
                    with path.open("a") as file:
                        file.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
