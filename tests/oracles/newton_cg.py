"""Newton's method by conjugate gradients in a region of trust, as a plain float64 loop.

Nocedal and Wright, 2006: algorithm 4.1 around algorithm 7.2, with what `jopt.minimize` makes of
their open choices: the first radius, how exact a step is, what a step not taken leaves of the
radius, and what is said of a value's last places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

EPS = np.finfo(float).eps
TOLERANCE, NEWTON_STEPS = 1e-8, 2000


def step(
    product: Callable[[np.ndarray], np.ndarray], g: np.ndarray, radius: float, tolerance: float
) -> tuple[np.ndarray, float, bool, float, int]:
    """Algorithm 7.2: the step, what it lowers the model by, is it on the edge, radius, products."""
    z, r, d = np.zeros_like(g), g.copy(), -g
    for products in range(1, max(20, 2 * g.size) + 1):
        hd = product(d)
        curvature = d @ hd
        if np.isinf(radius):
            radius = 10 * (r @ r) / curvature * np.linalg.norm(d) if curvature > 0 else 1.0
        alpha = r @ r / curvature if curvature > 0 else np.inf
        if curvature <= 0 or np.linalg.norm(z + alpha * d) >= radius:
            taus = np.roots([d @ d, 2 * z @ d, z @ z - radius**2]).real
            ends = [z + tau * d for tau in (taus if curvature <= 0 else [max(taus)])]
            lowers = [-(g @ p + p @ model(product, p) / 2) for p in ends]
            best = int(np.argmax(lowers))
            return ends[best], lowers[best], True, radius, products
        z, new = z + alpha * d, r + alpha * hd
        if np.linalg.norm(new) < tolerance:
            break
        r, d = new, new @ new / (r @ r) * d - new
    return z, -(g @ z + z @ model(product, z) / 2), False, radius, products


def model(product: Callable[[np.ndarray], np.ndarray], p: np.ndarray) -> np.ndarray:
    """H·p, not counted: the loop under test sums it up instead."""
    return np.asarray(product(p))


def run(problem: Any, x: np.ndarray, steps: int) -> tuple[list[float], list[int], np.ndarray]:
    """Values at the start and after each step taken; evaluations and products; the point."""
    f, g = problem.value_and_grad(x)
    f, g = float(f), np.asarray(g)
    values, counts, radius, norm = [f], [1, 0], np.inf, np.linalg.norm(g)
    while len(values) <= steps:
        size = np.linalg.norm(g)
        tolerance = min(0.5, np.sqrt(size / norm)) * size
        p, lowers, edge, radius, n = step(
            lambda d, x=x: np.asarray(problem.product(x, d)), g, radius, tolerance
        )
        f_new, g_new = (np.asarray(a) for a in problem.value_and_grad(x + p))
        counts = [counts[0] + 1, counts[1] + n]
        blur = 8 * EPS * abs(f)
        kept = (f - f_new + blur) / (lowers + blur)
        if not kept >= 0.25:
            radius = np.linalg.norm(p) / 4
        elif kept > 0.75 and edge:
            radius *= 2
        if kept > 0.15:
            assert f_new < f  # these problems are not followed to the last places
            x, f, g = x + p, float(f_new), g_new
            values.append(f)
    return values, counts, x


def by_scipy(value_and_grad: Any, product: Any, x0: np.ndarray) -> scipy.optimize.OptimizeResult:
    """What SciPy's `trust-ncg` finds, in at most `NEWTON_STEPS` steps."""
    return scipy.optimize.minimize(
        value_and_grad,
        x0,
        jac=True,
        hessp=product,
        method="trust-ncg",
        options={"gtol": TOLERANCE, "maxiter": NEWTON_STEPS},
    )
