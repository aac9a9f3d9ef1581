"""Orthogonalising matrices by Newton-Schulz iteration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jopt.numerics.dtypes import compute_dtype
from jopt.numerics.norms import scaled_matrix_norms
from jopt.numerics.once import once_if
from jopt.numerics.roots import safe_sqrt
from jopt.numerics.scales import power_below
from jopt.numerics.teams import ALONE, Team, Work

A_IN_RANGE = 2.0**-46, 2.0**62
"""Between such traces of A its square is in range, and what is lost of that beyond its digits."""


Triple = tuple[float, float, float]

POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.156554524902461 / 1.02, -22.48329292557795 / 1.02**3, 15.878769915207462 / 1.02**5),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Polynomials of Amsel et al., 2025, each the best after those before, with a margin of 0.02.

X is divided by 1.02 once more, for what rounding adds to its norm: in the first of them.
"""


def each_step(coefficients: Sequence[Any], steps: int) -> tuple[Triple, ...]:
    """(a, b, c) for each step, from one triple or a row of them, the last of which goes on."""
    one = not coefficients or not isinstance(coefficients[0], Sequence)
    rows = [tuple(coefficients)] if one else [tuple(row) for row in coefficients]
    return tuple(rows[min(k, len(rows) - 1)] for k in range(steps))


def newton_schulz(
    x: Array,
    coefficients: Sequence[Any],
    steps: int,
    eps: Array | float,
    dtype: DTypeLike = jnp.bfloat16,
    *,
    turned: bool = False,
    team: Team = ALONE,
) -> Array:
    """Matrices near U·Vᵀ for each matrix U·S·Vᵀ of a batch, with singular values around one.

    X ← X / max(‖X‖_F, ε), then `steps` times

        A ← X·Xᵀ
        X ← a·X + (b·A + c·A²)·X

    and the same with Xᵀ·X on the right where that is the smaller Gram matrix. The result is in
    at least float32.

    **Arguments:**

    - `x`: shape `(k, m, n)`.
    - `coefficients`: (a, b, c), or one such triple for each step, of which the last goes on. With
      Jordan's (3.4445, −4.7750, 2.0315) the singular values end between 0.68 and 1.13, not at
      one: the slope at zero is made steep instead.
    - `dtype`: that of X and A between products; products accumulate in at least float32.
    - `turned`: whether square matrices are multiplied from the right. It tells by rounding alone.
    - `team`: the devices that share the products, all of which have `x`.

    On the CPU every product is rounded where torch rounds it. Other platforms run bfloat16 in an
    order that costs a third of the memory traffic, see `lean`.

    Source: Jordan et al., 2024, "Muon"; Bernstein and Newhouse, 2024.
    """
    settings: dict[str, Any] = {
        "coefficients": tuple(tuple(x) if isinstance(x, Sequence) else x for x in coefficients),
        "steps": steps,
        "dtype": jnp.dtype(dtype),
        "team": team,
    }
    right = x.shape[1] > x.shape[2] or (turned and x.shape[1] == x.shape[2])
    in_turn: Callable[[Array, Array], Array] = functools.partial(plain, **settings, right=right)
    eps = jnp.asarray(eps, compute_dtype(dtype))
    if jnp.dtype(dtype) != jnp.bfloat16 or not steps:
        return in_turn(x, eps)
    found: Array = jax.lax.platform_dependent(
        x,
        eps,
        cpu=in_turn,
        tpu=functools.partial(lean, **settings, right=right, near=True),
        default=functools.partial(lean, **settings, right=right),
    )
    return found


def newton_schulz_work(shape: tuple[int, int], steps: int, dtype: DTypeLike) -> Work:
    """What a matrix of this shape takes, of a team: in each step rows of A and of X are told."""
    m, n = sorted(shape)
    told = jnp.dtype(dtype).itemsize * (m * m + m * n)
    return Work(steps * (4 * m * m * n + 2 * m**3), steps * told, 2 * steps)


def plain(
    x: Array,
    eps: Array,
    *,
    coefficients: Triple | tuple[Triple, ...],
    steps: int,
    dtype: jnp.dtype,
    right: bool,
    team: Team = ALONE,
) -> Array:
    """The iteration line by line, rounded to `dtype` where torch rounds."""
    wide = compute_dtype(dtype)
    bits = jnp.finfo(dtype)

    def rounded(y: Array) -> Array:
        # To `dtype` and back. A plain pair of casts XLA may drop, as excess precision.
        return jax.lax.reduce_precision(y, bits.nexp, bits.nmant)

    x = (x.mT if right else x).astype(dtype)
    factor, norm = scaled_matrix_norms(x)
    norm = rounded(jnp.maximum(rounded(norm), factor * eps))
    x = (factor * x.astype(wide) / norm).astype(dtype)

    def product(p: Array, q: Array, contract: int) -> Array:
        # XLA's CPU backend has no bfloat16 product for some layouts and fails at run time; the
        # product of widened operands is the same numbers, for each term is exact in float32.
        found: Array = jax.lax.platform_dependent(
            p,
            q,
            cpu=lambda p, q: _dot(p.astype(wide), q.astype(wide), 2, contract, wide),
            default=lambda p, q: _dot(p, q, 2, contract, wide),
        )
        return found

    for a, b, c in each_step(coefficients, steps):
        mine = team.rows(x)
        gram = rounded(product(mine, x, 2))
        rows = gram.astype(dtype)
        poly = b * gram + c * product(rows, team.whole(rows), 1)
        mine = rounded(a * mine.astype(wide) + product(poly.astype(dtype), x, 1))
        x = team.whole(mine.astype(dtype))
    return (x.mT if right else x).astype(wide)


def lean(
    x: Array,
    eps: Array,
    *,
    coefficients: Triple | tuple[Triple, ...],
    steps: int,
    dtype: jnp.dtype,
    right: bool,
    team: Team = ALONE,
    near: bool = False,
) -> Array:
    """The same iteration with little but the products to read and write.

        A ← X·Xᵀ
        P ← a·I + b·A + c·A²
        X ← P·X

    Every array is stored in `dtype`, and none wider: a matrix product of a GPU rounds before it
    writes, but cannot add a·X. To have a·I in P costs a rounding of P's diagonal to `dtype`,
    a·X in float32 would cost a second and a third pass over X. Nor are X and A divided by their
    norms: ‖X‖²_F is the trace of A, and 1 / ‖X‖_F a factor of the first P. Only where A² might
    leave the range is X brought near 1, by a power of two, and A made again. With `near` X is so
    from the start: a TPU reads it twice where it lies on the chip, and what a loop might change
    it keeps in the main memory.
    """
    if right and team.size > 1:  # a team has rows
        by_rows = functools.partial(lean, coefficients=coefficients, steps=steps, dtype=dtype)
        return by_rows(x.mT, eps, right=False, team=team, near=near).mT
    wide = compute_dtype(dtype)
    side = 1 if right else 2
    # XLA would hand wider copies from one line to the next, as excess precision.
    fixed: Any = jax.lax.optimization_barrier
    identity = jnp.eye(min(x.shape[1:]), dtype=wide)[None]

    def product(x: Array, team: Team) -> Array:
        return team.whole(fixed(_dot(team.rows(x), x, side, side, dtype)))

    def again(held: tuple[Array, ...]) -> tuple[Array, ...]:
        x, _, _, least = held
        by, norm = scaled_matrix_norms(x)
        near = 1 / power_below(norm)
        x = fixed(x * by.astype(dtype) * near.astype(dtype))
        gram = product(x, ALONE)  # not all teams are here
        return x, gram, _trace(gram), near * least * by

    x = fixed(x.astype(dtype))
    if near:
        x, eps = _near_one(x, eps)
        x = fixed(x)
    for k, (a, b, c) in enumerate(each_step(coefficients, steps)):
        gram = product(x, team)
        square_of = jnp.ones((x.shape[0], 1, 1), wide)
        if k == 0:
            total, (low, high) = _trace(gram), A_IN_RANGE
            least = jnp.zeros_like(total) + eps  # laid as the other is, where types say so
            if not near:
                far = jnp.any(~((total > low) & (total < high)))
                x, gram, total, least = once_if(far, again, (x, gram, total, least))
            factor = 1 / jnp.maximum(safe_sqrt(total), least)
            square_of = factor * factor
        rows = team.rows(gram)
        square = fixed(_dot(rows, gram, 2, 1, dtype))
        second = square_of * (square_of * square.astype(wide))
        poly = a * team.rows(identity) + b * (square_of * rows.astype(wide)) + c * second
        poly = fixed((poly if k else factor * poly).astype(dtype))
        x = fixed(_dot(x, poly, 2, 1, dtype) if right else _dot(poly, x, 2, 1, dtype))
        x = team.whole(x)
    return x.astype(wide)


def _near_one(x: Array, eps: Array) -> tuple[Array, Array]:
    """Matrices and `eps`, both times a power of two, with the largest entry of each in [1, 2)."""
    most = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=0.0)
    most = most.astype(compute_dtype(x.dtype))
    most = jax.lax.stop_gradient(most)  # what comes out does not depend on it
    for _ in range(2):  # one power of two does not reach from one end of the range to the other
        by = 1 / power_below(most)
        x, most, eps = x * by.astype(x.dtype), most * by, eps * by
    return x, eps


def _trace(gram: Array) -> Array:
    wide = compute_dtype(gram.dtype)
    return jnp.trace(gram.astype(wide), axis1=1, axis2=2)[:, None, None]


def _dot(p: Array, q: Array, left: int, right: int, dtype: DTypeLike) -> Array:
    over = ((left,), (right,)), ((0,), (0,))
    return jax.lax.dot_general(p, q, over, preferred_element_type=dtype)
