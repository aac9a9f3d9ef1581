"""Adam-mini: Adam with one step size for a block of entries."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE
from jopt.numerics import adam_corrections, adam_direction, lerp

SPEC = Spec(
    name="adam_mini",
    hypers=(RATE, B1, B2, EPS, DECAY),
    slots=(MU, Slot("nu", "scalar", signed=False, compress=False)),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adam_mini`."""
    mu = lerp(s.mu, g, 1 - h.b1)
    # A sum of numbers, each in range, may be out of it; the square of none of them is more.
    mean = jnp.sum(jnp.square(g) / max(g.size, 1))
    nu = h.b2 * s.nu + (1 - h.b2) * mean
    return adam_direction(mu, nu, h.eps, h.k1, h.k2), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def adam_mini(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """Adam-mini: AdamW whose second moment is one number for each block of a parameter.

    With η the learning rate, λ the weight decay, t the step from 1, and means over a block:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·mean(g²)
        d ← μ / (1 − β₁ᵗ) / (√(ν / (1 − β₂ᵗ)) + ε)
        p ← p·(1 − η·λ) − η·d

    A block is a leaf, or a tensor of one by `axes`. The authors have a block for each head of
    queries and keys, for each output of other matrices, for each token of embeddings and heads,
    and Adam for biases. With flax's kernels that is

        axes={r"(query|key)/kernel$": "d heads k -> heads d k",
              r"kernel$": "... o -> o ...", r"embedding$": "token ...", r"bias$": "i ..."}

    where no leaf has two of them; the last line has blocks of one entry, which is Adam.

    **Arguments** (η, β₁, β₂ and ε are the authors' defaults):

    - `learning_rate`: η ≥ 0, a number or a schedule: AdamW's.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0, decoupled. The authors take it off norms and biases: see `groups`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype`, `axes` and what else every
      optimizer takes, see `jopt.Decoupled`.

    **State:** `mu` like the parameters, in at least float32; `nu`, a number for each block; and the
    step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Zhang et al., 2024, "Adam-mini: use fewer learning rates to gain more", algorithm 1.
    The authors' code tells blocks by the names of a model.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adam_mini(0.1)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = tx.update({"w": jnp.array([1.0, 7.0])}, tx.init(params), params)
    >>> jnp.round(100 * updates["w"])
    Array([ -2., -14.], dtype=float32)
    """
