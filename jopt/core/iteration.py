"""What optimizers that orthogonalise take beside their numbers: the iteration that does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from jopt.base import ConfigError, is_one_of
from jopt.core.checks import floating_dtype
from jopt.numerics import ALONE, POLAR_EXPRESS, Team, Work, newton_schulz, newton_schulz_work

Triple = tuple[float, float, float]
"""The coefficients a, b and c of one step of Newton-Schulz."""
Coefficients = Triple | Sequence[Triple] | Literal["polar_express"]
"""One triple for all steps of Newton-Schulz, one for each, or the name of a known row."""
NAMED: dict[str, Any] = {"polar_express": POLAR_EXPRESS}

Adjust = Literal["original", "spectral", "match_rms_adamw"]
Kernels = Literal["out_in", "in_out"]
"""Whether matrices are written outputs by inputs, as torch does, or inputs by outputs."""

CHOICES = dict.fromkeys(("ns_coefficients", "ns_steps", "adjust_lr", "kernels", "ns_dtype"))
"""The options of a spec whose rule orthogonalises."""


def scale_of(shape: tuple[int, ...], adjust_lr: str | None, kernels: str) -> float:
    """What the learning rate is multiplied by for a matrix of this shape."""
    outputs, inputs = shape if kernels == "out_in" else shape[::-1]
    if adjust_lr == "match_rms_adamw":
        return 0.2 * math.sqrt(max(outputs, inputs))
    ratio = outputs / max(inputs, 1)
    return math.sqrt(ratio if adjust_lr == "spectral" else max(1.0, ratio))


def check_shapes(who: str, adjust_lr: Any, kernels: Any, *known: str) -> None:
    """Raise `ConfigError` unless `adjust_lr` is None or known, and `kernels` a choice."""
    if not is_one_of(adjust_lr, None, *known):
        raise ConfigError(
            who,
            "adjust_lr is unknown",
            expected=", ".join(["None", *map(repr, known[:-1])]) + f" or {known[-1]!r}",
            found=repr(adjust_lr),
        )
    if not is_one_of(kernels, "out_in", "in_out"):
        raise ConfigError(
            who, "kernels is unknown", expected="'out_in' or 'in_out'", found=repr(kernels)
        )


def polynomials(coefficients: Any) -> Any:
    """(a, b, c), or a row of them, by name or as they are."""
    return NAMED[coefficients] if isinstance(coefficients, str) else coefficients


def orthogonalised(x: Any, h: Any, eps: Any, team: Team = ALONE) -> Any:
    """Newton-Schulz for all matrices of a shape at once; `h` has the choices."""
    # The way round that torch has it: for a square matrix the rounding of the products tells.
    turned = h.kernels == "in_out"
    coefficients = polynomials(h.ns_coefficients)
    return newton_schulz(x, coefficients, h.ns_steps, eps, h.ns_dtype, turned=turned, team=team)


def iteration_work(shape: tuple[int, int], h: Any) -> Work:
    """What it takes to orthogonalise a matrix of this shape."""
    return newton_schulz_work(shape, h.ns_steps, h.ns_dtype)


def checked_iteration(who: str, coefficients: Any, steps: Any, dtype: Any) -> dict[str, Any]:
    """`ns_coefficients`, `ns_steps` and `ns_dtype` as static choices, or a `ConfigError`."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps < 100:
        raise ConfigError(who, "ns_steps is out of range", expected="[0, 100)", found=steps)
    return {
        "ns_coefficients": _checked(who, coefficients),
        "ns_steps": steps,
        "ns_dtype": floating_dtype(who, "ns_dtype", dtype),
    }


def _checked(who: str, given: Any) -> Any:
    if isinstance(given, str) and given in NAMED:
        return given
    row = isinstance(given, tuple | list)
    if row and _triple(given):
        return tuple(given)
    if row and given and all(_triple(x) for x in given):
        return tuple(tuple(x) for x in given)
    raise ConfigError(
        who,
        "ns_coefficients are (a, b, c)",
        expected="3 numbers, a row of such triples, or 'polar_express'",
        found=repr(given)[:100],
    )


def _triple(x: Any) -> bool:
    return (
        isinstance(x, tuple | list)
        and len(x) == 3
        and all(
            isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in x
        )
    )
