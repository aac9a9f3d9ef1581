"""RAdam's rectification: how far a young mean of squares may be trusted."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def rectification(b2: Array, t: Array, least: float) -> tuple[Array, Array]:
    """Whether ρₜ > `least`, and rₜ = √((ρₜ − 4)·(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρₜ)) where it is.

    `least` is 4 in the paper, 5 in torch.
    """
    end = 2 / (1 - b2) - 1
    now = averaged_length(b2, t)
    there = now > least
    rho, rho_inf = jnp.where(there, now, 6.0), jnp.where(there, end, 6.0)
    r = jnp.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return there, r


def averaged_length(b2: Array, t: Array) -> Array:
    """ρₜ = ρ∞ − 2t·β₂ᵗ / (1 − β₂ᵗ) with ρ∞ = 2 / (1 − β₂) − 1: how many steps ν averages over.

    In the first steps that is a small difference of large numbers: float32 would keep three
    digits of it. With x = −log β₂ and Langevin's L(z) = coth z − 1 / z, the large parts cancel
    on paper: ρₜ = t + L(x / 2) − t·L(t·x / 2), used while t·x ≤ 1.
    """
    x = -jnp.log(b2)
    early = t * x <= 1
    small = jnp.where(early, t, 0) + langevin(jnp.where(early, x, 0) / 2)
    small = small - t * langevin(jnp.where(early, t * x, 0) / 2)
    power = jnp.where(early, 0.5, jnp.exp(-t * x))
    return jnp.where(early, small, 2 / (1 - b2) - 1 - 2 * t * power / (1 - power))


def langevin(z: Array) -> Array:
    """coth z − 1 / z for |z| ≤ ½, by its series, to 1e-15."""
    coefficients = (
        1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555,
        -1382 / 638512875, 4 / 18243225, -3617 / 162820783125, 87734 / 38979295480125,
        -349222 / 1531329465290625,
    )  # fmt: skip
    total = jnp.zeros_like(z)
    for c in reversed(coefficients):
        total = total * z * z + c
    return total * z
