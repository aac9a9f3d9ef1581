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

MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "BoxBOD": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut2": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Lanczos3": lambda b, x: (
        b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)
    ),
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": lambda b, x: (
        (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)
    ),
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
    y, x = np.array([[float(v) for v in line.split()] for line in data if line.strip()]).T
    return Dataset(name, starts[:2], starts[2], float(squares[1]), y, x)


def digits(found: Any, certified: Any) -> float:
    """How many digits of the worst one agree, as NIST counts them."""
    error = np.max(np.abs(np.asarray(found) / certified - 1))
    return float(min(11.0, -np.log10(max(error, 1e-16))))
