"""CAME: Adafactor with momentum, slower where momentum and gradient disagree."""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, RATE
from jopt.numerics import kept_apart, lerp, mean_along, rms, safe_sqrt


def factors(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape keeps rows and columns."""
    return len(shape) > 1


SPEC = Spec(
    name="came",
    hypers=(
        RATE,
        B1,
        B2,
        Hyper("b3", "[0, 1)"),
        Hyper("eps1", "[0, inf)"),
        Hyper("eps2", "[0, inf)"),
        Hyper("clipping_threshold", "(0, inf)"),
        DECAY,
    ),
    slots=(
        Slot("mu"),
        Slot("nu_row", "row", fits=factors, signed=False),
        Slot("nu_column", "column", fits=factors, signed=False),
        Slot("nu", fits=lambda n: not factors(n), signed=False),
        Slot("residual_row", "row", fits=factors, signed=False),
        Slot("residual_column", "column", fits=factors, signed=False),
    ),
    gives="direction",
    decay="step",
    complex="no",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """A 1 that compilers cannot see, see `rms`."""
    return {"one": jnp.ones_like(h.b1)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `came`."""
    # A slot that is infinite would be NaN at the next step; so many of these have a finite sum.
    limit = float(jnp.finfo(g.dtype).max) / max(g.size, 1)

    def means(row: Any, column: Any, squares: Any, weight: Any) -> tuple[Any, Any]:
        of = [jnp.minimum(mean_along(squares, axis), limit) for axis in (-1, -2)]
        return kept_apart(lerp(row, of[0], weight)), kept_apart(lerp(column, of[1], weight))

    squares = jnp.square(g) + h.eps1
    if factors(g.shape):
        row, column = means(s.nu_row, s.nu_column, squares, 1 - h.b2)
        new = {"nu_row": row, "nu_column": column}
        u = g * over_root(row, column)
    else:
        nu = kept_apart(lerp(s.nu, jnp.minimum(squares, limit), 1 - h.b2))
        new = {"nu": nu}
        u = g / jnp.maximum(safe_sqrt(nu), least(g.dtype))
    u = u / jnp.maximum(1, rms(u, h.one) / h.clipping_threshold)
    mu = new["mu"] = lerp(s.mu, u, 1 - h.b1)
    if not factors(g.shape):
        return mu, new
    squares = jnp.square(u - mu) + h.eps2
    row, column = means(s.residual_row, s.residual_column, squares, 1 - h.b3)
    return mu * over_root(row, column), new | {"residual_row": row, "residual_column": column}


def over_root(row: Any, column: Any) -> Any:
    """1 / √(R·C / mean(R)), of factors neither of which leaves the range; always finite.

    To multiply by: the derivative of a quotient squares what it divides by, whatever of.
    """
    floor = least(row.dtype)
    r, mean, c = (safe_sqrt(jnp.maximum(x, floor)) for x in (row, mean_along(row, -2), column))
    return 1 / (jnp.maximum(r / mean, math.sqrt(floor)) * c)


def least(dtype: Any) -> float:
    """So small that it is in range, and so is its root times itself."""
    return 4 * float(jnp.finfo(dtype).tiny)


@optimizer(SPEC, rule, prepare=prepare)
def came(
    learning_rate: Value = 2e-4,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    b3: Value = 0.9999,
    eps1: Value = 1e-30,
    eps2: Value = 1e-16,
    clipping_threshold: Value = 1.0,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """CAME: Adafactor with momentum, which moves less where it is unsure. m×n costs m·n + 2(m + n).

    With η the learning rate, λ the weight decay and τ the clipping threshold, R and C running
    means along the rows and down the columns of the last two axes:

        R, C ← β₂·(R, C) + (1 − β₂)·means(g² + ε₁)
        u ← g / √(R·C / mean(R));  g / √ν for vectors and numbers
        u ← u / max(1, RMS(u) / τ)
        μ ← β₁·μ + (1 − β₁)·u
        R′, C′ ← β₃·(R′, C′) + (1 − β₃)·means((u − μ)² + ε₂)
        d ← μ / √(R′·C′ / mean(R′));  μ for vectors and numbers
        p ← p·(1 − η·λ) − η·d

    **Arguments** (defaults are the authors'; η is theirs for BERT):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`, `b3`: β₁, β₂ and β₃ in [0, 1).
    - `eps1`, `eps2`: ε₁ and ε₂ ≥ 0, what is added to squares.
    - `clipping_threshold`: τ > 0.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. Means are of a leaf, or of each tensor of one by `axes`.

    **State:** `mu` like the parameters; `nu_row`, `nu_column`, `residual_row` and
    `residual_column` for parameters with two axes or more, `nu` for the others; all in at least
    float32.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter.

    Source: Luo et al., 2023, "CAME: confidence-guided adaptive memory efficient optimization",
    algorithm 2; vectors as in the authors' code. No mean is bias-corrected, which RMS(u) ≤ τ and
    the first steps' residuals make up for: η is below Adam's. Means stop at the largest float32
    over the number of entries, and no root is 0: steps stay finite where the authors' are not.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.came(0.1)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = tx.update({"w": jnp.full(2, 3.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w'][0]), 4)
    0.99
    """
