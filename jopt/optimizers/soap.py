"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, matrixwise, optimizer
from jopt.core.bases import SIDES, axis_of, grams_of, in_bases, renewed, side_slot
from jopt.core.checks import check_count
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import B1, B2, DECAY, EPS, RATE
from jopt.numerics import (
    Together,
    adam_moments,
    as_one,
    debias,
    followed,
    lerp,
    safe_sqrt,
)

ROUNDINGS = 16
"""So many of the largest entry's are taken for what a change of coordinates leaves anywhere."""


SPEC = Spec(
    name="soap",
    hypers=(RATE, B1, B2, Hyper("b3", "[0, 1)", optional=True), EPS, DECAY),
    slots=(
        Slot("mu", owned=True),
        Slot("nu", signed=False, owned=True),
        *(side_slot(kind, name) for kind in ("factor", "basis") for name in SIDES),
    ),
    options={"update_every": None, "max_size": None, "one_sided": None, "spread": None},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    ndim=(0, 1, 2),
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """Whether bases begin or are renewed, and what undoes both biases, with a step less for them.

    Where there are bases the first step makes them, and moves nothing.
    """
    behind, turn = jnp.maximum(h.t - 1, 1), jnp.mod(h.t - 1, h.update_every)
    return {
        "first": h.t == 1,
        "turn": turn,
        "k": jnp.sqrt(debias(h.b2, h.t)) / debias(h.b1, h.t),
        "k_behind": jnp.sqrt(debias(h.b2, behind)) / debias(h.b1, behind),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `soap`."""
    if g.ndim == 2:
        return (yield g), {}
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    return h.k * divided(mu, safe_sqrt(nu), h), {"mu": mu, "nu": nu}


def divided(mu: Any, root: Any, h: Any) -> Any:
    """μ / (√ν + ε), 0 where both are."""
    under = root + h.eps
    return mu / jnp.where(under > 0, under, 1)


def seen_root(nu: Any) -> Any:
    """√ν of each matrix of a stack, where it is more than rounding.

    In other coordinates an entry without a gradient has what is rounded off the others, and its
    moments have different roundings, so that their quotient may be any number.
    """
    root = safe_sqrt(nu)
    most = jnp.max(root, axis=(-2, -1), keepdims=True, initial=0.0)
    return jnp.maximum(root, ROUNDINGS * float(jnp.finfo(nu.dtype).eps) * most)


def batch(x: Any, s: Any, h: Any) -> Together:
    """What becomes of a stack of matrices, and of what is kept beside them."""
    held = [name for name in SIDES if hasattr(s, f"basis_{name}")]
    bases = {name: getattr(s, f"basis_{name}") for name in held}
    mu = lerp(s.mu, x, 1 - h.b1)
    if not held:
        nu = h.b2 * s.nu + (1 - h.b2) * jnp.square(x)
        return h.k * divided(mu, safe_sqrt(nu), h), {"mu": mu, "nu": nu}
    # What is put together reads what is written, and does not make it anew.
    given = x, jax.lax.optimization_barrier(mu), s.nu, bases
    d, nu, grams = yield as_one(functools.partial(seen_in, h=h)), given
    mu, d = (jnp.where(h.first, 0, y) for y in (mu, h.k_behind * d))
    b3 = h.b2 if h.b3 is None else h.b3
    factors = {name: lerp(getattr(s, f"factor_{name}"), grams[name], 1 - b3) for name in held}
    bases, nu = yield functools.partial(renewed, _followed, h=h), (factors, bases, nu)
    new = {f"factor_{name}": factors[name] for name in held}
    return d, {"mu": mu, "nu": nu, **new} | {f"basis_{name}": bases[name] for name in held}


def seen_in(of: Any, h: Any) -> Any:
    """The direction, the new ν, and what gradients have in common along each side."""
    x, mu, nu, bases = of
    nu = h.b2 * nu + (1 - h.b2) * jnp.square(in_bases(x, bases))
    d = in_bases(divided(in_bases(mu, bases), seen_root(nu), h), bases, back=True)
    return d, nu, {name: grams_of(x, name) for name in bases}


def _followed(factors: Any, held: Any) -> Any:
    """The bases, and ν with its rows and columns in their order."""
    (bases, nu), made = held, {}
    # Written down where it is put together, so that its rows can be written where they lay.
    nu = jax.lax.optimization_barrier(nu)
    # Columns before rows: gathered the other way round it would lie by columns.
    for name, x in sorted(factors.items(), key=lambda side: -axis_of(side[0], nu)):
        made[name], order = jax.vmap(followed)(x, bases[name])
        axis = axis_of(name, nu)
        nu = jnp.take_along_axis(nu, jnp.expand_dims(order, -3 - axis), axis)
    return made, nu


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, prepare=prepare)
def soap(
    learning_rate: Value = 3e-3,
    *,
    b1: Value = 0.95,
    b2: Value = 0.95,
    b3: Value | None = None,
    eps: Value = 1e-8,
    update_every: int = 10,
    max_size: int = 10000,
    one_sided: bool = False,
    spread: bool = False,
    weight_decay: Value = 0.01,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """SOAP: Adam in the coordinates in which a parameter's gradients are least correlated.

    With η the learning rate, λ the weight decay, t the step from 1, and for a matrix L and R its
    factors, and Q and P their eigenvectors:

        M ← β₁·M + (1 − β₁)·G
        V ← β₂·V + (1 − β₂)·(Qᵀ·G·P)²
        D ← Q·((Qᵀ·M·P) / (√V + ε))·Pᵀ·√(1 − β₂ᵗ⁻¹) / (1 − β₁ᵗ⁻¹)
        p ← p·(1 − η·λ) − η·D
        L ← β₃·L + (1 − β₃)·G·Gᵀ,  R ← β₃·R + (1 − β₃)·Gᵀ·G
        Q ← qr(L·Q),  P ← qr(R·P)      at every f-th step, columns of the largest first

    At the first step D, M and V are 0, and Q and P the eigenvectors of L and R. Vectors and
    numbers have Adam's step. On a mesh all of it is done where matrices are whole, see
    `jopt.matrixwise`.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `b3`: β₃ in [0, 1), of the factors; `None` takes β₂.
    - `eps`: ε ≥ 0, added before the bias correction, unlike Adam's.
    - `update_every`: f ≥ 1. Between, no program has the decompositions to do.
    - `max_size`: a longer axis has no factor, and stays as it is: an embedding is one-sided.
    - `one_sided`: leave out the factor of a matrix's longer side (of columns, if it is square), at
      less state and arithmetic.
    - `spread`: renew the bases of a share of the matrices of a shape at every step, where else
      all are renewed at one: no step takes much longer than another. Which are of a share
      depends on what other leaves there are, and on the mesh.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. A leaf of more axes needs `axes`.

    **State:** `mu` and `nu` like the parameters; of a matrix `factor_short` and `basis_short`, n×n
    if its shorter side is n long, `factor_long` and `basis_long`; all in at least float32; and
    the step count. No `state_dtype` stores factors and bases in fewer bits.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter, or
    one of more than two axes.

    Source: Vyas et al., 2024, "SOAP: improving and stabilizing Shampoo using Adam", algorithm 3,
    with ε, the order of columns and the first step as in the authors' code, where vectors, too,
    rest at the first step, and decay follows the step. √V counts as at least 16 roundings of its
    largest entry: there, where no gradient is, two roundings are divided by each other. In float32
    a gradient above 10¹⁹ counts in factors as much as the largest whose squares are finite.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.soap(0.1, weight_decay=0.0)
    >>> params, g = {"w": jnp.zeros((2, 2))}, {"w": jnp.array([[3.0, 0.0], [0.0, 1.0]])}
    >>> _, state = tx.update(g, tx.init(params), params)
    >>> jnp.round(tx.update(g, state, params)[0]["w"], 3) + 0.0
    Array([[-0.1,  0. ],
           [ 0. , -0.1]], dtype=float32)
    """
    return {
        "update_every": check_count("soap", "update_every", update_every, 1),
        "max_size": check_count("soap", "max_size", max_size, 0, "entries"),
    }
