"""Solves the CUTEst problems of sif2jax by `jopt.minimize` and by SciPy, and compares.

Run from the repository root, with sif2jax installed: `python -m tests.benchmarks.cutest FOLDER`
runs what is not yet in the folder's files, one line of JSON a problem; with `--report` it prints
what they say. `results/cutest` holds what was found. All in float64, n ≤ 1000, until
no entry of the projected gradient is above 1e-8. Solved is a value within
1e-6·max(1, |f|) of the lowest found. Both call the same compiled function, jopt through a callback,
so that its loop is compiled once for all problems of a size; every point they ask for is looked at.
Those without bounds are solved by L-BFGS and, in at most 2000 steps, by Newton's method in a region
of trust, too. `--most N` leaves the larger ones out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array
from jax.flatten_util import ravel_pytree

import jopt
from tests.benchmarks.reports import say
from tests.oracles import newton_cg
from tests.oracles.newton_cg import NEWTON_STEPS, TOLERANCE

KINDS = {"free": "unconstrained_minimisation_problems", "bounded": "bounded_minimisation_problems"}


Found = tuple[float, int, str, int | None]
"""Value, evaluations, message, products with the Hessian."""


class Function(NamedTuple):
    """Value and gradient of a problem; the product of its Hessian with a vector."""

    look: Callable[[np.ndarray], tuple[Any, np.ndarray]]
    product: Callable[[np.ndarray, np.ndarray], np.ndarray]


functions: list[Function] = []
"""Of the problems so far; a callback knows them by their number."""


@jax.custom_jvp
def asked(x: Array, which: Array) -> tuple[Array, Array]:
    """Value and gradient at `x`, from outside of the program."""
    like = jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct(x.shape, float)
    found: tuple[Array, Array] = jax.pure_callback(
        lambda x, which: functions[int(which)].look(np.asarray(x)), like, x, which
    )
    return found


@asked.defjvp
def along(at: tuple[Array, Array], way: tuple[Array, Any]) -> tuple[Any, Any]:
    """What they change by along a way."""
    found = asked(*at)
    product = jax.pure_callback(
        lambda x, d, which: functions[int(which)].product(np.asarray(x), np.asarray(d)),
        jax.ShapeDtypeStruct(at[0].shape, float),
        at[0],
        way[0],
        at[1],
    )
    return found, (found[1] @ way[0], product)


@jax.custom_vjp
def value(x: Array, which: Array) -> Array:
    """The value alone."""
    return asked(x, which)[0]


value.defvjp(asked, lambda grad, along: (along * grad, None))


def by_jopt(function: Function, x0: np.ndarray, box: Any, **more: Any) -> Found:
    """By `jopt.minimize`."""
    functions.append(function)
    which = len(functions) - 1
    bounds = box and tuple(map(jnp.asarray, box))
    found = jopt.minimize(
        value, x0, jnp.int32(which), bounds=bounds, tolerance_grad=TOLERANCE, **more
    )
    products = None if found.products is None else int(found.products)
    return float(found.value), int(found.evaluations), found.message, products


def by_newton_cg(function: Function, x0: np.ndarray, box: Any) -> Found:
    """By its Newton's method."""
    return by_jopt(function, x0, box, method="newton_cg", max_steps=NEWTON_STEPS)


def by_scipy(function: Function, x0: np.ndarray, box: Any) -> Found:
    """By SciPy, stopped by the gradient alone."""
    found = scipy.optimize.minimize(
        function.look,
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=box and scipy.optimize.Bounds(*box),
        options={"gtol": TOLERANCE, "ftol": 0, "maxiter": 15000, "maxfun": 20000},
    )
    return float(found.fun), int(found.nfev), str(found.message), None


def by_trust_ncg(function: Function, x0: np.ndarray, box: Any) -> Found:
    """By SciPy's Newton's method."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = newton_cg.by_scipy(function.look, function.product, x0)
    return float(found.fun), int(found.nfev), str(found.message), int(found.nhev)


METHODS = {"jopt": by_jopt, "scipy": by_scipy, "newton_cg": by_newton_cg, "trust_ncg": by_trust_ncg}
PAIRS = {"free": (("jopt", "scipy"), ("newton_cg", "trust_ncg")), "bounded": (("jopt", "scipy"),)}


def measure(problem: Any, method: str, bounded: bool) -> dict[str, Any]:
    """One problem by one method."""
    x0, whole = ravel_pytree(problem.y0)
    x0 = np.asarray(x0, float)
    box = None
    if bounded:
        sides = [np.asarray(ravel_pytree(side)[0], float) for side in problem.bounds]
        box = tuple(np.broadcast_to(side, x0.shape) for side in sides)

    def objective(x: Any) -> Any:
        return jnp.asarray(problem.objective(whole(x), problem.args), float).reshape(())

    compiled = jax.jit(jax.value_and_grad(objective))
    along = jax.jit(lambda x, d: jax.jvp(jax.grad(objective), (x,), (d,))[1])

    def look(x: np.ndarray) -> tuple[Any, np.ndarray]:
        if box is not None and not np.all((x >= box[0]) & (x <= box[1])):
            outside.append(x)
        at, grad = compiled(x)
        return np.asarray(at, float), np.asarray(grad, float)

    outside: list[np.ndarray] = []
    compiled(x0)  # before a callback waits for it
    newton = method in PAIRS["free"][1]
    if newton:
        along(x0, x0)
    function = Function(look, lambda x, d: np.asarray(along(x, d)))
    lowest, evaluations, message, products = METHODS[method](function, x0, box)
    assert not outside
    return {
        "name": problem.name,
        "n": x0.size,
        "value": lowest,
        "evaluations": evaluations,
        "message": message,
        **({"products": products} if newton else {}),
    }


def read(path: Path) -> dict[str, Any]:
    """The lines of a file by the problems' names."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def report(folder: Path, kind: str, pair: tuple[str, str]) -> str:
    """Solved by each of two, and evaluations on what both solved; the lowest is of all methods."""
    everyone = [read(folder / f"{kind}_{m}.jsonl") for m in METHODS]
    found = {m: read(folder / f"{kind}_{m}.jsonl") for m in pair}
    names = sorted(set.intersection(*(set(rows) for rows in found.values())))
    lowest = {
        n: min(r[n]["value"] for r in everyone if n in r and not math.isnan(r[n]["value"]))
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
    ours, theirs = (found[m] for m in pair)
    for counted in ("evaluations", "products"):
        if all(counted in rows[n] for rows in (ours, theirs) for n in both):
            counts = [(max(1, ours[n][counted]), max(1, theirs[n][counted])) for n in both]
            ratios = [math.log(a / b) for a, b in counts]
            lines.append(f"{counted}, geometric mean of the ratio: {math.exp(np.mean(ratios)):.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, or print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--most", type=int, default=1000, metavar="N")
    parser.add_argument("--methods", nargs="*", default=[*METHODS], choices=METHODS)
    given = parser.parse_args()
    if given.report:
        for kind in KINDS:
            for pair in PAIRS[kind]:
                if read(given.folder / f"{kind}_{pair[0]}.jsonl"):
                    say(report(given.folder, kind, pair))
        return
    jax.config.update("jax_enable_x64", True)
    import sif2jax

    given.folder.mkdir(exist_ok=True)
    for kind, listed in KINDS.items():
        for problem in getattr(sif2jax, listed):
            if ravel_pytree(problem.y0)[0].size > given.most:
                continue
            for method in {*itertools.chain(*PAIRS[kind])} & {*given.methods}:
                path = given.folder / f"{kind}_{method}.jsonl"
                if problem.name not in read(path):
                    row = measure(problem, method, kind == "bounded")
                    with path.open("a") as file:
                        file.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
