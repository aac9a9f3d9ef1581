"""Adafactor: second moments of matrices kept as a row and a column."""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.checks import check_count
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import kept_apart, lerp, mean_along, rms, safe_sqrt


def factors(shape: tuple[int, ...], on: Any) -> bool:
    """Whether a parameter of this shape keeps a row and a column."""
    least: int = on["min_dim_size_to_factor"]
    return bool(on["factored"]) and len(shape) > 1 and min(shape[-2:]) >= least


def whether(on: Any) -> bool:
    """Whether any parameter does."""
    return bool(on["factored"])


SPEC = Spec(
    name="adafactor",
    torch="Adafactor",
    hypers=(
        RATE,
        Hyper("b2_decay", "(-inf, 0]", torch="beta2_decay"),
        Hyper("eps1", "[0, inf)", torch="eps[0]", optional=True),
        Hyper("eps2", "[0, inf)", torch="eps[1]"),
        Hyper("clipping_threshold", "[1, inf)", torch="d"),
        DECAY,
        Hyper("b2_max", "[0, 1]", optional=True),
        Hyper("momentum", "[0, 1)", optional="zero"),
    ),
    slots=(
        Slot("nu_row", "row", when=whether, fits=factors, torch="row_var", signed=False),
        Slot("nu_column", "column", when=whether, fits=factors, torch="col_var", signed=False),
        Slot("nu", fits=lambda n, on: not factors(n, on), torch="variance", signed=False),
        Slot("mu", when=lambda on: on["momentum"]),
    ),
    options={
        "factored": None,
        "min_dim_size_to_factor": None,
        "multiply_by_parameter_scale": None,
        "maximize": "maximize",
    },
    unsaid={"factored": True, "min_dim_size_to_factor": 0, "multiply_by_parameter_scale": True},
    gives="step",
    decay="step",
    counts=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """1 − β₂ of this step, the relative step size, and a 1 that compilers cannot see."""
    mix, rate = h.t**h.b2_decay, h.learning_rate
    return {
        "one": jnp.ones_like(h.t),
        "mix": mix if h.b2_max is None else jnp.maximum(mix, 1 - h.b2_max),
        "rho": jnp.minimum(rate, 1 / jnp.sqrt(h.t)) if h.multiply_by_parameter_scale else rate,
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adafactor`."""
    eps1 = float(jnp.finfo(h.dtype).eps) if h.eps1 is None else h.eps1
    # A slot that is infinite would be NaN at the next step; so many of these have a finite sum.
    limit = float(jnp.finfo(g.dtype).max) / max(g.size, 1)
    if hasattr(s, "nu_row"):
        square = jnp.square(g)
        pairs = g.ndim > h.ndim  # both parts of a complex entry stand in its row and its column
        square = jnp.mean(square, -1) if pairs else square
        of_rows = jnp.minimum(mean_along(square, -1), limit)
        of_columns = jnp.minimum(mean_along(square, -2), limit)
        row = kept_apart(lerp(s.nu_row, of_rows, h.mix))
        column = kept_apart(lerp(s.nu_column, of_columns, h.mix))
        new = {"nu_row": row, "nu_column": column}
        nu = row / jnp.maximum(mean_along(h.one * row, -2), eps1) * column
        nu = nu[..., None] if pairs else nu
    else:
        nu = kept_apart(lerp(s.nu, jnp.minimum(jnp.square(g), limit), h.mix))
        new = {"nu": nu}
    u = g / jnp.maximum(safe_sqrt(nu), eps1)
    alpha = h.rho
    if h.multiply_by_parameter_scale:
        alpha = jnp.maximum(h.eps2, jnp.minimum(rms(p, h.one), math.sqrt(limit))) * h.rho
    step = alpha / jnp.maximum(1, rms(u, h.one) / h.clipping_threshold) * u
    if h.momentum is None:
        return step, new
    mu = lerp(s.mu, step, 1 - h.momentum)
    return mu, new | {"mu": mu}


@optimizer(SPEC, rule, prepare=prepare)
def adafactor(
    learning_rate: Value = 1e-2,
    *,
    b2_decay: Value = -0.8,
    eps1: Value | None = None,
    eps2: Value = 1e-3,
    clipping_threshold: Value = 1.0,
    weight_decay: Value = 0.0,
    b2_max: Value | None = None,
    momentum: Value = False,
    factored: bool = True,
    min_dim_size_to_factor: int = 0,
    multiply_by_parameter_scale: bool = True,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """Adafactor, as `torch.optim.Adafactor`. An m×n matrix costs m + n numbers of state.

    With η the learning rate, λ the weight decay, τ the clipping threshold, t the step from 1,
    R and C the means of g² along the rows and down the columns of the last two axes:

        β ← 1 − t^κ  with κ = `b2_decay`
        R ← β·R + (1 − β)·mean_columns(g²)
        C ← β·C + (1 − β)·mean_rows(g²)
        ν ← R·C / max(mean(R), ε₁);  for vectors and scalars β·ν + (1 − β)·g²
        u ← g / max(√ν, ε₁)
        α ← max(ε₂, RMS(p))·min(η, 1 / √t)
        s ← α·u / max(1, RMS(u) / τ)
        p ← p·(1 − η·λ) − s

    With β₁ `momentum`, μ ← β₁·μ + (1 − β₁)·s stands for s in the last line.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule: the largest step relative to RMS(p).
    - `b2_decay`: κ ≤ 0, torch's `beta2_decay`.
    - `eps1`: ε₁ ≥ 0. `None` takes the machine epsilon of the dtype that the parameter is stored
      in, and stays out of the state. Torch takes the group's first parameter's for all of them.
      bfloat16's is 2⁻⁷, more than most gradients late in a run, which then shrink the steps with
      them: give 2⁻²³, float32's, for such parameters to step as float32 ones.
    - `eps2`: ε₂ ≥ 0, the scale of a parameter that is near 0.
    - `clipping_threshold`: τ ≥ 1, torch's `d`.
    - `weight_decay`: λ ≥ 0, decoupled. It multiplies η, not α.
    - `b2_max`: a number in [0, 1] that β does not pass, 0.999 in Zhai et al., 2021; `None` for
      none.
    - `momentum`: β₁ in [0, 1). Off, or the number 0, keeps no `mu`.
    - `factored`: `False` keeps ν whole for matrices, too.
    - `min_dim_size_to_factor`: matrices with a shorter one of the last two axes keep ν whole;
      optax's is 128.
    - `multiply_by_parameter_scale`: `False` takes η for α, without RMS(p), ε₂ and 1 / √t.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `nu_row` and `nu_column` for parameters with two axes or more, `nu` for the
    others, with momentum `mu` like the parameters, in at least float32, and the step count.

    A complex parameter is its real and imaginary parts: both count in its row, its column and its
    RMS. torch has no rule for it; optax takes |g|² for g², twice as much.

    **Raises:** `ConfigError` for a number out of range.

    Source: Shazeer and Stern, 2018, algorithms 4 and 5, as torch has them: ε₁ bounds √ν and the
    mean of R where the paper adds it to g², η stands for the paper's 10⁻², and momentum is off.
    Optax has ε₁ where the paper does, no 1 / √t, weight decay that η does not multiply, and the
    two longest axes for rows and columns where torch and we have the last two.
    We divide by max(√ν, ε₁) where torch multiplies by 1 / √max(ν, ε₁²): the same, but
    in float32 ε₁² is 0 for ε₁ = 10⁻³⁰, and torch's zero gradient then gives NaN. Means of g² and
    RMS(p)² stop at the largest float32 over the number of entries, where torch's are infinite
    and its parameters then NaN: steps stay finite, but are no longer those of exact arithmetic.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adafactor(0.1)
    >>> params = {"w": jnp.ones((2, 2))}
    >>> updates, state = tx.update({"w": jnp.full((2, 2), 3.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w'][0, 0]), 4)
    0.9
    """
    least = check_count("adafactor", "min_dim_size_to_factor", min_dim_size_to_factor, 0)
    return {"min_dim_size_to_factor": least}
