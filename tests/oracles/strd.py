"""Fits with certified digits: NIST's Statistical Reference Datasets for nonlinear regression.

The files in `strd` are those of https://www.itl.nist.gov/div898/strd, works of the United States
government and so in the public domain. Certified are eleven digits of the parameters and of the
sum of squares, found in 128 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

FILES = Path(__file__).parent / "strd"


def echo(b: Any, x: Any) -> Any:
    """Chwirut's, of ultrasound."""
    return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def cubics(b: Any, x: Any) -> Any:
    """One over the other."""
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return above / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def exponentials(b: Any, x: Any) -> Any:
    """Lanczos's three."""
    return b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)


def peaks(b: Any, x: Any) -> Any:
    """Two over a decay."""
    first, second = (b[i] * jnp.exp(-(((x - b[i + 1]) / b[i + 2]) ** 2)) for i in (2, 5))
    return b[0] * jnp.exp(-b[1] * x) + first + second


def waves(b: Any, x: Any) -> Any:
    """The year's and two of unknown period."""

    def one(period: Any, across: Any, up: Any) -> Any:
        return across * jnp.cos(2 * jnp.pi * x / period) + up * jnp.sin(2 * jnp.pi * x / period)

    return b[0] + one(12, b[1], b[2]) + one(b[3], b[4], b[5]) + one(b[6], b[7], b[8])


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut1": echo,
    "Chwirut2": echo,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "ENSO": waves,
    "Gauss1": peaks,
    "Gauss2": peaks,
    "Gauss3": peaks,
    "Hahn1": cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": exponentials,
    "Lanczos2": exponentials,
    "Lanczos3": exponentials,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": cubics,
}


class Dataset(NamedTuple):
    """A data set with its two starts and what is certified."""

    name: str
    starts: np.ndarray
    params: np.ndarray
    sum_of_squares: float
    y: np.ndarray
    x: np.ndarray

    def scaled(self, q: Any, start: Any) -> Any:
        """The sum of squares as a function of the parameters in units of the start."""
        return jnp.sum((MODELS[self.name](q * start, self.x) - self.y) ** 2)


def dataset(name: str) -> Dataset:
    """The one of this name."""
    text = (FILES / f"{name}.dat").read_text()
    rows = re.findall(r"^\s*b\d+ =\s+(\S+)\s+(\S+)\s+(\S+)\s+\S+\s*$", text, re.M)
    starts = np.array([[float(v) for v in row] for row in rows]).T
    squares = re.search(r"Residual Sum of Squares:\s+(\S+)", text)
    assert squares is not None
    data = text[text.rindex("Data:") :].splitlines()[1:]
    y, *x = np.array([[float(v) for v in line.split()] for line in data if line.strip()]).T
    if name == "Nelson":  # whose model is of the logarithm, and has two variables
        y = np.log(y)
    x = x[0] if len(x) == 1 else np.stack(x)
    return Dataset(name, starts[:2], starts[2], float(squares[1]), y, x)


def digits(found: Any, certified: Any) -> float:
    """How many digits of the worst one agree, as NIST counts them."""
    error = np.max(np.abs(np.asarray(found) / certified - 1))
    return float(min(11.0, -np.log10(max(error, 1e-16))))
