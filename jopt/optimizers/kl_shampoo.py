"""KL-Shampoo: Shampoo's factors, each fitted to gradients that the other has whitened."""

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
from jopt.numerics import Together, as_one, followed_in_order, lerp, mean_square

OTHER = {"short": "long", "long": "short"}

SPEC = Spec(
    name="kl_shampoo",
    hypers=(RATE, B1, B2, EPS, Hyper("init_scale", "(0, inf)"), DECAY),
    slots=(
        Slot("mu", owned=True),
        *(side_slot(kind, name) for kind in ("factor", "basis") for name in SIDES),
        *(side_slot("scale", name, ndim=1, signed=False) for name in SIDES),
    ),
    options={"update_every": None, "max_size": None, "largest_scale": None, "spread": None},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    ndim=2,
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """Whether bases begin, and how many steps ago all were renewed."""
    return {"first": h.t == 1, "turn": jnp.mod(h.t - 1, h.update_every)}


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `kl_shampoo`."""
    return (yield g), {}


def batch(x: Any, s: Any, h: Any) -> Together:
    """What becomes of a stack of matrices, and of what is kept beside them."""
    held = [name for name in SIDES if hasattr(s, f"basis_{name}")]
    bases = {name: getattr(s, f"basis_{name}") for name in held}
    scales = {name: getattr(s, f"scale_{name}") for name in held}
    mu = lerp(s.mu, x, 1 - h.b1)
    # What is put together reads what is written, and does not make it anew.
    given = x, jax.lax.optimization_barrier(mu), bases, scales
    d, grams, seen = yield as_one(functools.partial(seen_in, h=h)), given
    # The first step makes bases, and moves nothing.
    mu, d = (jnp.where(h.first, 0, y) for y in (mu, d))
    if not held:
        return d, {"mu": mu}
    factors, new = {}, {"mu": mu}
    for name in held:
        mean = grams[name] / x.shape[axis_of(OTHER[name], x)]
        factors[name] = new[f"factor_{name}"] = lerp(getattr(s, f"factor_{name}"), mean, 1 - h.b2)
        new[f"scale_{name}"] = _renewed_scale(scales[name], seen[name], h)
    bases, _ = yield functools.partial(renewed, _followed, h=h), (factors, bases, ())
    return d, new | {f"basis_{name}": q for name, q in bases.items()}


def seen_in(of: Any, h: Any) -> Any:
    """The direction; and for each side what gradients that the other has whitened have in common
    along it, and the means of their squares in the bases.
    """
    x, mu, bases, scales = of
    both = _scaled(_scaled(jnp.ones_like(x), scales, "short"), scales, "long")
    d = in_bases(in_bases(mu, bases) * (both / (1 + h.eps * both)), bases, back=True)
    turned, grams, seen = in_bases(x, bases), {}, {}
    for name in bases:
        other = OTHER[name]
        across = {k: q for k, q in bases.items() if k == other}
        white = jnp.where(h.first, x, _scaled(in_bases(x, across), scales, other))
        grams[name] = grams_of(white, name)
        alone = _scaled(turned, scales, other)
        seen[name] = jax.vmap(lambda y, k=name: mean_square(y, axis_of(k, y) + 2))(alone)
    return d, grams, seen


def _scaled(x: Any, scales: Any, name: str) -> Any:
    """Rows or columns of a stack multiplied by a side's scales, if it has some."""
    if name not in scales:
        return x
    return x * jnp.expand_dims(scales[name], -3 - axis_of(name, x))


def _renewed_scale(scale: Any, seen: Any, h: Any) -> Any:
    """λ^(−1/2) of the eigenvalues with what this step saw of them; 0 where they are."""
    there = scale > 0
    values = jnp.where(there, jnp.square(1 / jnp.where(there, scale, 1)), 0)
    values = lerp(values, seen, 1 - h.b2)
    there = values > 0
    found = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, values, 1)), 0)
    if h.largest_scale is not None:
        found = jnp.minimum(found, max(10, min(scale.shape[-1], h.largest_scale)))
    return jnp.where(h.first, 1 / jnp.sqrt(h.init_scale), found)


def _followed(factors: Any, held: Any) -> Any:
    bases, _ = held
    return {k: jax.vmap(followed_in_order)(factors[k], q) for k, q in bases.items()}, ()


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, prepare=prepare)
def kl_shampoo(
    learning_rate: Value = 1e-4,
    *,
    b1: Value = 0.9,
    b2: Value = 0.98,
    eps: Value = 1e-8,
    init_scale: Value = 0.1,
    largest_scale: int | None = 4000,
    update_every: int = 10,
    max_size: int = 10000,
    spread: bool = False,
    weight_decay: Value = 0.01,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """KL-Shampoo: Shampoo without another rule's step length; for matrices only.

    With η the learning rate, λ the weight decay, t the step from 1, and for an m×n matrix L and R
    its factors, Q and P bases that follow their eigenvectors, and d and e what their eigenvalues
    are to the power of −1/2:

        M ← β₁·M + (1 − β₁)·G
        E ← d·eᵀ, entry by entry E / (1 + ε·E)
        D ← Q·((Qᵀ·M·P) ∘ E)·Pᵀ
        p ← p·(1 − η·λ) − η·D
        L ← β₂·L + (1 − β₂)·G·P·diag(e²)·Pᵀ·Gᵀ / n
        R ← β₂·R + (1 − β₂)·Gᵀ·Q·diag(d²)·Qᵀ·G / m
        d⁻² ← β₂·d⁻² + (1 − β₂)·mean over columns of ((Qᵀ·G·P)·diag(e))²
        e⁻² ← β₂·e⁻² + (1 − β₂)·mean over rows of (diag(d)·(Qᵀ·G·P))²
        Q ← qr(L·Q),  P ← qr(R·P)                              at every f-th step

    where all that is read is of the step before. L and R are so those that minimize the
    Kullback-Leibler divergence of normal distributions with covariances E[g·gᵀ] and L ⊗ R, each
    with the other as it is. At the first step D and M are 0, L = (1 − β₂)·G·Gᵀ/n, R likewise, Q
    and P are their eigenvectors, and d and e are λ₀^(−1/2). Unlike Shampoo and SOAP it keeps no
    second moment of entries.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1). Neither mean has its bias undone.
    - `eps`: ε ≥ 0.
    - `init_scale`: λ₀ > 0, which eigenvalues begin from.
    - `largest_scale`: c; no entry of d or e becomes larger than max(10, min(n, c)) for a side of
      length n; `None` for any.
    - `update_every`: f ≥ 1. Between, no program has the decompositions to do.
    - `max_size`: a longer axis has no factor: it counts as I.
    - `spread`: renew the bases of a share of the matrices of a shape at every step, see `soap`.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` like the parameters; `factor_short`, `basis_short`, n×n, and `scale_short` of a
    shorter side of length n, and as much of the longer one; all in at least float32; and the step
    count. No `state_dtype` stores but `mu` in fewer bits.

    **Raises:** `ConfigError` for a number out of range; `TreeError` for a parameter that is no
    matrix, or complex: see `jopt.recipes.muon_adamw` and `jopt.route`.

    Source: Lin et al., 2026, "Understanding and improving Shampoo and SOAP via Kullback-Leibler
    minimization", as in the authors' code, from which the bound c, λ₀ and the first step are. It
    computes in bfloat16 between decompositions, shrinks p after the step, and not at the first.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.kl_shampoo(0.1, weight_decay=0.0)
    >>> params, g = {"w": jnp.zeros((2, 2))}, {"w": jnp.array([[3.0, 0.0], [0.0, 1.0]])}
    >>> _, state = tx.update(g, tx.init(params), params)
    >>> jnp.round(tx.update(g, state, params)[0]["w"], 3) + 0.0
    Array([[-0.3,  0. ],
           [ 0. , -0.1]], dtype=float32)
    """
    counts = {
        "update_every": check_count("kl_shampoo", "update_every", update_every, 1),
        "max_size": check_count("kl_shampoo", "max_size", max_size, 0, "entries"),
    }
    if largest_scale is not None:
        counts["largest_scale"] = check_count("kl_shampoo", "largest_scale", largest_scale, 1)
    return counts
