"""A^(−1/p) of symmetric matrices without negative eigenvalues."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.numerics.decompositions import eigh
from jopt.numerics.eigenbases import EXACT
from jopt.numerics.loops import while_loop

MOST_STEPS = 100
"""So often Newton's iteration is applied at most; it needs fifteen to forty."""


def inverse_roots(m: Array, p: int, eps: Array, ridge: Array, *, newton: bool = False) -> Array:
    """(M + (ε + ρ·‖M‖_F)·I)^(−1/p) for each matrix of a batch; I where M is 0.

    **Arguments:**

    - `m`: shape `(k, n, n)`.
    - `p`: p ≥ 1.
    - `eps`, `ridge`: ε and ρ, what keeps eigenvalues from 0.
    - `newton`: by coupled Newton iteration, which has products only, where else by eigenvectors.
    """
    size = jnp.max(jnp.abs(m), axis=(-2, -1), keepdims=True, initial=0.0)
    there = size > 0
    size = jnp.where(there, size, 1)
    m = m / size
    length = jnp.sqrt(jnp.sum(jnp.square(m), axis=(-2, -1), keepdims=True))
    floor = ridge * length + eps / size
    eye = jnp.broadcast_to(jnp.eye(m.shape[-1], dtype=m.dtype), m.shape)
    shifted = jnp.where(there, m + floor * eye, eye)
    found = _newton(shifted, eye, p) if newton else _eigenvectors(shifted, p)
    # √ and not a power where that will do: a power costs digits.
    root = jnp.sqrt(jnp.sqrt(size)) if p == 4 else size ** (1 / p)
    return jnp.where(there, found / root, eye)


def _eigenvectors(a: Array, p: int) -> Array:
    values, q = eigh(a)
    least = float(jnp.finfo(a.dtype).eps) * jnp.max(values, -1, keepdims=True, initial=0.0)
    values = jnp.maximum(values, least)
    return jnp.matmul(q * values[..., None, :] ** (-1 / p), q.mT, precision=EXACT)


def _newton(a: Array, eye: Array, p: int) -> Array:
    """H ← H·T and N ← Tᵖ·N with T = ((p + 1)·I − N) / p, until N is I: H is then A^(−1/p)."""
    length = jnp.sqrt(jnp.sum(jnp.square(a), axis=(-2, -1), keepdims=True))
    z = (1 + p) / (2 * length)
    tolerance = 10 * float(jnp.finfo(a.dtype).eps)

    def off(n: Array) -> Array:
        return jnp.max(jnp.abs(n - eye), axis=(-2, -1), keepdims=True, initial=0.0)

    def going(step: Array, error: Array, before: Array) -> Array:
        # What no longer comes nearer has come as near as rounding lets it.
        return (step < MOST_STEPS) & (error > tolerance) & (error < before)

    def better(held: tuple[Array, ...]) -> Array:
        step, _, _, error, before = held
        return jnp.any(going(step, error, before))

    def once(held: tuple[Array, ...]) -> Any:
        step, h, n, error, before = held
        t = ((p + 1) * eye - n) / p
        power = t
        for bit in bin(p)[3:]:  # tᵖ by squares
            power = jnp.matmul(power, power, precision=EXACT)
            power = jnp.matmul(power, t, precision=EXACT) if bit == "1" else power
        following = jnp.matmul(power, n, precision=EXACT)
        found = off(following)
        take = going(step, error, before) & (found < error)
        h = jnp.where(take, jnp.matmul(h, t, precision=EXACT), h)
        n = jnp.where(take, following, n)
        return step + 1, h, n, jnp.where(take, found, error), jnp.where(take, error, 0)

    n = a * z
    error = off(n)
    # Each has its number of steps, which goes along with its error; one for all takes more kernels.
    steps = jnp.zeros_like(error, jnp.int32)
    start = steps, eye * z ** (1 / p), n, error, jnp.full_like(error, jnp.inf)
    found: Array = while_loop(better, once, start)[1]
    return found
