"""Adam's direction, which optimizers take with other decay; their choices and numbers are `h`'s."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.numerics.moments import Ratio, debias, lerp, lerp_by, share_of
from jopt.numerics.roots import safe_sqrt


def adam_moments(g: Array, mu: Array, nu: Array, b1: Array, b2: Array) -> tuple[Array, Array]:
    """Adam's running means of g and of g²: μ + (1 − β₁)(g − μ) and β₂·ν + (1 − β₂)·g²."""
    return lerp(mu, g, 1 - b1), b2 * nu + (1 - b2) * jnp.square(g)


def adam_corrections(b1: Array, b2: Array, t: Array) -> dict[str, Array]:
    """The factors that undo both moments' bias: k₁ = 1 / (1 − β₁ᵗ) and k₂ = 1 / √(1 − β₂ᵗ).

    Factors, because XLA would turn a division by a scalar into a kernel for its reciprocal
    and a product, once for every leaf.
    """
    return {"k1": 1 / debias(b1, t), "k2": 1 / jnp.sqrt(debias(b2, t))}


def adam_root(nu: Array, k2: Array, eps_root: Array | None) -> Array:
    """√ν̂ with the bias k₂ undone: k₂·√ν, or √(k₂²·ν + ε′)."""
    return k2 * safe_sqrt(nu) if eps_root is None else safe_sqrt(nu * k2 * k2 + eps_root)


def adam_direction(
    mu: Array, nu: Array, eps: Array, k1: Array, k2: Array, eps_root: Array | None = None
) -> Ratio:
    """k₁·μ / (k₂·√ν + ε)."""
    return Ratio(mu, adam_root(nu, k2, eps_root) + eps, k1)


def adam_ahead(g: Array, mu: Array, b1: Array, k1: Array, k1_next: Array) -> Array:
    """μ̂ one step ahead, as Nesterov's momentum: β₁·μ / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ)."""
    return b1 * k1_next * mu + (1 - b1) * k1 * g


def adam_prepare(h: Any) -> dict[str, Any]:
    """Bias corrections, with `nesterov` that of the next step, too, and what else leaves share.

    After that nobody reads t.
    """
    found = adam_corrections(h.b1, h.b2, h.t) | {"share": share_of(h.b1), "t": None}
    return found | ({"k1_next": 1 / debias(h.b1, h.t + 1)} if h.nesterov else {})


def adam_rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `jopt.adam`."""
    mu = lerp_by(s.mu, g, h.share)
    nu = h.b2 * s.nu + (1 - h.b2) * jnp.square(g)
    new = {"mu": mu, "nu": nu}
    if h.amsgrad:
        nu = new["nu_max"] = jnp.maximum(s.nu_max, nu)
    if not h.nesterov:
        return adam_direction(mu, nu, h.eps, h.k1, h.k2, h.eps_root), new
    ahead = adam_ahead(g, mu, h.b1, h.k1, h.k1_next)
    return Ratio(ahead, adam_root(nu, h.k2, h.eps_root) + h.eps), new
