"""NorMuon: Muon whose outputs move equally far."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, matrixwise, optimizer
from jopt.core.iteration import (
    CHOICES,
    Coefficients,
    Kernels,
    check_shapes,
    checked_iteration,
    iteration_work,
    orthogonalised,
    scale_of,
)
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import B2, BUFFER, DECAY, EPS, RATE
from jopt.numerics import ALONE, Team, lerp, mean_along, norm, safe_sqrt


def _outputs(shape: tuple[int, ...], on: Any) -> tuple[int, ...]:
    return (shape[0], 1) if on["kernels"] == "out_in" else (1, shape[1])


SPEC = Spec(
    name="normuon",
    hypers=(RATE, DECAY, Hyper("momentum", "[0, 1)"), B2, EPS),
    slots=(BUFFER, Slot("nu", _outputs, signed=False)),
    options={"nesterov": None, **CHOICES},
    gives="direction",
    decay="step",
    complex="no",
    ndim=2,
    params_by=("weight_decay",),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `normuon`."""
    b = lerp(s.momentum_buffer, g, 1 - h.momentum)
    u = lerp(g, b, h.momentum) if h.nesterov else b
    x = yield u.astype(h.ns_dtype)
    x = x.astype(g.dtype)
    mean = mean_along(jnp.square(x), -1 if h.kernels == "out_in" else -2)
    nu = lerp(s.nu, mean, 1 - h.b2)
    under = safe_sqrt(nu) + h.eps
    d = x / jnp.where(under > 0, under, 1)
    size = norm(d)
    if h.adjust_lr is None:
        length: Any = 0.2 * math.sqrt(g.size)
    else:
        length = scale_of(g.shape, h.adjust_lr, h.kernels) * norm(x)
    return length / jnp.where(size > 0, size, 1) * d, {"momentum_buffer": b, "nu": nu}


def batch(x: Any, h: Any, team: Team = ALONE) -> Any:
    """Newton-Schulz for all matrices of a shape at once."""
    return orthogonalised(x, h, 1e-7, team)


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, work=iteration_work)
def normuon(
    learning_rate: Value = 1e-3,
    *,
    weight_decay: Value = 0.1,
    momentum: Value = 0.95,
    b2: Value = 0.95,
    eps: Value = 1e-10,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    adjust_lr: Literal["original", "spectral", "match_rms_adamw"] | None = None,
    kernels: Kernels = "out_in",
    ns_dtype: str = "bfloat16",
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """NorMuon: Muon that gives each output of a matrix a step size of its own; for matrices only.

    With η the learning rate, λ the weight decay and μ the momentum, for an m×n matrix of m outputs:

        B ← B + (1 − μ)·(G − B)
        U ← G + μ·(B − G) with nesterov, else B
        X ← Newton-Schulz of U, see `muon`
        ν ← β₂·ν + (1 − β₂)·mean of X² over each output's entries
        D ← X / (√ν + ε)
        P ← P·(1 − η·λ) − η·s·D / ‖D‖

    with s = 0.2·√(m·n), which lets the learning rate and decay of AdamW be taken over.

    **Arguments** (μ, β₂ and ε are the authors', λ is torch's for Muon):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `weight_decay`: λ ≥ 0, decoupled; it multiplies η alone.
    - `momentum`: μ in [0, 1).
    - `b2`: β₂ in [0, 1).
    - `eps`: ε ≥ 0.
    - `nesterov`: look ahead.
    - `ns_coefficients`, `ns_steps`, `ns_dtype`, `kernels`: see `muon`; `kernels` also tells
      which axis has the outputs.
    - `adjust_lr`: another s: ‖X‖ times Muon's √max(1, m / n) for `"original"`, √(m / n) for
      `"spectral"`, 0.2·√max(m, n) for `"match_rms_adamw"`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `momentum_buffer` like the parameters, and `nu`, a number for each output, in at
    least float32.

    **Raises:** `ConfigError` for a number out of range or an unknown choice; `TreeError` for a
    parameter that is no matrix, or complex: see `jopt.recipes.muon_adamw` and `jopt.route`.

    Source: Li et al., 2025, "NorMuon: making Muon more efficient and scalable", algorithm 1;
    `"spectral"` is what the code of Dion has.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.normuon(1.0, weight_decay=0.0)
    >>> params = {"w": jnp.zeros((2, 2))}
    >>> updates, state = tx.update({"w": jnp.diag(jnp.array([3.0, 2.0]))}, tx.init(params), params)
    >>> jnp.round(updates["w"], 2) + 0.0
    Array([[-0.28,  0.  ],
           [ 0.  , -0.28]], dtype=float32)
    """
    check_shapes("normuon", adjust_lr, kernels, "original", "spectral", "match_rms_adamw")
    return checked_iteration("normuon", ns_coefficients, ns_steps, ns_dtype)
