"""The test problems of Moré, Garbow and Hillstrom (1981), by their formulas and numbers.

Each is a sum of squares of residuals with a standard start. `minima` are the values the paper
gives for its minima; a method may end in any of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Problem:
    """A problem: its residuals, its start, the values at its minima."""

    name: str
    residuals: Callable[[Any], Any]
    start: tuple[float, ...]
    minima: tuple[float, ...] = (0.0,)

    def value(self, x: Any) -> Any:
        """The sum of squares."""
        return jnp.sum(jnp.square(self.residuals(x)))

    @functools.cached_property
    def value_and_grad(self) -> Callable[[Any], Any]:
        """Both, compiled, for oracles that are no jax programs."""
        return jax.jit(jax.value_and_grad(self.value))

    @functools.cached_property
    def product(self) -> Callable[[Any, Any], Any]:
        """Of the Hessian at a point with a vector."""
        return jax.jit(lambda x, d: jax.jvp(jax.grad(self.value), (x,), (d,))[1])


def stack(*xs: Any) -> Any:
    return jnp.stack(xs)


def upto(m: int) -> np.ndarray:
    """1, ..., m."""
    return np.arange(1.0, m + 1)


def rosenbrock(x):
    return stack(10 * (x[1] - x[0] ** 2), 1 - x[0])


def freudenstein_roth(x):
    return stack(
        -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1],
        -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1],
    )


def powell_badly_scaled(x):
    return stack(1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001)


def brown_badly_scaled(x):
    return stack(x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2)


def beale(x):
    return stack(
        1.5 - x[0] * (1 - x[1]), 2.25 - x[0] * (1 - x[1] ** 2), 2.625 - x[0] * (1 - x[1] ** 3)
    )


def jennrich_sampson(x):
    i = upto(10)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


def helical_valley(x):
    turn = jnp.arctan(x[1] / x[0]) / (2 * np.pi) + jnp.where(x[0] < 0, 0.5, 0.0)
    return stack(10 * (x[2] - 10 * turn), 10 * (jnp.hypot(x[0], x[1]) - 1), x[2])


BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def bard(x):
    u = upto(15)
    v = 16 - u
    return np.array(BARD) - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


GAUSSIAN = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)


def gaussian(x):
    y = np.array((*GAUSSIAN, 0.3989, *GAUSSIAN[::-1]))
    return x[0] * jnp.exp(-x[1] * ((8 - upto(15)) / 2 - x[2]) ** 2 / 2) - y


def gulf(x):
    t = upto(99) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t


def box_3d(x):
    t = upto(10) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x):
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x):
    return stack(
        10 * (x[1] - x[0] ** 2),
        1 - x[0],
        90**0.5 * (x[3] - x[2] ** 2),
        1 - x[2],
        10**0.5 * (x[1] + x[3] - 2),
        10**-0.5 * (x[1] - x[3]),
    )


KOWALIK_Y = (0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
KOWALIK_U = (4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x):
    y, u = np.array(KOWALIK_Y), np.array(KOWALIK_U)
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x):
    t = upto(20) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


OSBORNE_1 = (
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751,
    0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490,
    0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406,
)  # fmt: skip


def osborne_1(x):
    t = 10 * (upto(33) - 1)
    return np.array(OSBORNE_1) - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def biggs_exp6(x):
    t = upto(13) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


OSBORNE_2 = (
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
    0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
    0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
    0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
    0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
)  # fmt: skip


def osborne_2(x):
    t = (upto(65) - 1) / 10
    bells = sum(x[i] * jnp.exp(-((t - x[i + 7]) ** 2) * x[i + 4]) for i in (1, 2, 3))
    return np.array(OSBORNE_2) - (x[0] * jnp.exp(-t * x[4]) + bells)


def watson(x):
    n = len(x)
    t = (upto(29) / 29)[:, None]
    j = np.arange(n)
    slope = (j[1:] * t ** j[:-1]) @ x[1:]
    return jnp.concatenate([slope - (t**j @ x) ** 2 - 1, stack(x[0], x[1] - x[0] ** 2 - 1)])


def extended_rosenbrock(x):
    a, b = x.reshape(-1, 2).T
    return jnp.concatenate([10 * (b - a**2), 1 - a])


def penalty_1(x):
    return jnp.append(1e-5**0.5 * (x - 1), jnp.sum(x**2) - 0.25)


def penalty_2(x):
    n, a = len(x), 1e-5**0.5
    i = upto(n)[1:]
    e = jnp.exp(x / 10)
    first = a * (e[1:] + e[:-1] - (np.exp(i / 10) + np.exp((i - 1) / 10)))
    second = a * (e[1:] - np.exp(-0.1))
    last = jnp.sum((n - upto(n) + 1) * x**2) - 1
    return jnp.concatenate([x[:1] - 0.2, first, second, last[None]])


def variably_dimensioned(x):
    total = jnp.sum(upto(len(x)) * (x - 1))
    return jnp.concatenate([x - 1, stack(total, total**2)])


def trigonometric(x):
    n = len(x)
    return n - jnp.sum(jnp.cos(x)) + upto(n) * (1 - jnp.cos(x)) - jnp.sin(x)


def brown_almost_linear(x):
    n = len(x)
    return jnp.append(x[:-1] + jnp.sum(x) - (n + 1), jnp.prod(x) - 1)


def discrete_boundary_value(x):
    h = 1 / (len(x) + 1)
    t = upto(len(x)) * h
    padded = jnp.pad(x, 1)
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral(x):
    h = 1 / (len(x) + 1)
    t = upto(len(x)) * h
    cubes = (x + t + 1) ** 3
    before = np.tril(np.ones((len(x),) * 2))
    return x + h / 2 * ((1 - t) * (before @ (t * cubes)) + t * ((1 - before) @ ((1 - t) * cubes)))


def broyden_tridiagonal(x):
    padded = jnp.pad(x, 1)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def chebyquad(x):
    n = len(x)
    low, high = jnp.ones_like(x), 2 * x - 1
    rows = []
    for i in range(1, n + 1):
        integral = -1 / (i**2 - 1) if i % 2 == 0 else 0.0
        rows.append(jnp.mean(high) - integral)
        low, high = high, 2 * (2 * x - 1) * high - low
    return stack(*rows)


def starts(x: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in x)


PROBLEMS = (
    Problem("rosenbrock", rosenbrock, (-1.2, 1)),
    Problem("freudenstein_roth", freudenstein_roth, (0.5, -2), (0, 48.98425)),
    Problem("powell_badly_scaled", powell_badly_scaled, (0, 1)),
    Problem("brown_badly_scaled", brown_badly_scaled, (1, 1)),
    Problem("beale", beale, (1, 1)),
    Problem("jennrich_sampson", jennrich_sampson, (0.3, 0.4), (124.3621824,)),
    Problem("helical_valley", helical_valley, (-1, 0, 0)),
    Problem("bard", bard, (1, 1, 1), (8.214877e-3, 17.42869)),
    Problem("gaussian", gaussian, (0.4, 1, 0), (1.127933e-8,)),
    Problem("gulf", gulf, (5, 2.5, 0.15)),
    Problem("box_3d", box_3d, (0, 10, 20)),
    Problem("powell_singular", powell_singular, (3, -1, 0, 1)),
    Problem("wood", wood, (-3, -1, -3, -1)),
    Problem("kowalik_osborne", kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.075056e-4,)),
    Problem("brown_dennis", brown_dennis, (25, 5, -5, -1), (85822.2016,)),
    Problem("osborne_1", osborne_1, (0.5, 1.5, -1, 0.01, 0.02), (5.464895e-5,)),
    Problem("biggs_exp6", biggs_exp6, (1, 2, 1, 1, 1, 1), (0, 5.655650e-3)),
    Problem(
        "osborne_2",
        osborne_2,
        (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5),
        (4.013774e-2,),
    ),
    Problem("watson_6", watson, (0,) * 6, (2.287670e-3,)),
    Problem("watson_9", watson, (0,) * 9, (1.399760e-6,)),
    Problem("extended_rosenbrock", extended_rosenbrock, (-1.2, 1) * 10),
    Problem("extended_powell_singular", powell_singular, (3, -1, 0, 1) * 5),
    Problem("penalty_1", penalty_1, starts(upto(10)), (7.087652e-5,)),
    Problem("penalty_2", penalty_2, (0.5,) * 4, (9.376293e-6,)),
    Problem("variably_dimensioned", variably_dimensioned, starts(1 - upto(10) / 10)),
    Problem("trigonometric", trigonometric, (0.1,) * 10, (0, 2.795056e-5)),
    Problem("brown_almost_linear", brown_almost_linear, (0.5,) * 10, (0, 1)),
    Problem(
        "discrete_boundary_value",
        discrete_boundary_value,
        starts(upto(10) / 11 * (upto(10) / 11 - 1)),
    ),
    Problem("discrete_integral", discrete_integral, starts(upto(10) / 11 * (upto(10) / 11 - 1))),
    Problem("broyden_tridiagonal", broyden_tridiagonal, (-1,) * 10),
    Problem("chebyquad_8", chebyquad, starts(upto(8) / 9), (3.516874e-3,)),
    Problem("chebyquad_9", chebyquad, starts(upto(9) / 10)),
)

BY_NAME = {p.name: p for p in PROBLEMS}
