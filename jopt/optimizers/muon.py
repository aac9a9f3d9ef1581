"""Muon: momentum, orthogonalised."""

from __future__ import annotations

from typing import Any, Literal, Unpack

from jopt.core import Decoupled, Hyper, Spec, Value, matrixwise, optimizer
from jopt.core.iteration import (
    Coefficients,
    check_shapes,
    checked_iteration,
    iteration_work,
    orthogonalised,
    polynomials,
    scale_of,
)
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import BUFFER, DECAY, EPS, RATE
from jopt.numerics import ALONE, Team, lerp, newton_schulz_in_place

SPEC = Spec(
    name="muon",
    torch="Muon",
    hypers=(
        RATE,
        DECAY,
        Hyper("momentum", "[0, inf)", torch="momentum"),
        EPS,
    ),
    slots=(BUFFER,),
    options={
        "nesterov": "nesterov",
        "ns_coefficients": "ns_coefficients",
        "ns_steps": "ns_steps",
        "adjust_lr": "adjust_lr_fn",
        "kernels": None,
        "ns_dtype": None,
    },
    gives="direction",
    decay="step",
    complex="no",
    ndim=2,
    params_by=("weight_decay",),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `muon`."""
    b = lerp(s.momentum_buffer, g, 1 - h.momentum)
    u = lerp(g, b, h.momentum) if h.nesterov else b
    x = yield u.astype(h.ns_dtype)
    d = scale_of(g.shape, h.adjust_lr, h.kernels) * x.astype(g.dtype)
    return d, {"momentum_buffer": b}


def batch(x: Any, h: Any, team: Team = ALONE) -> Any:
    """Newton-Schulz for all matrices of a shape at once."""
    return orthogonalised(x, h, h.eps, team)


def spread(x: Any, h: Any, over: tuple[str, ...]) -> Any:
    """The same for matrices of which each device has some columns."""
    coefficients = polynomials(h.ns_coefficients)
    return newton_schulz_in_place(x, coefficients, h.ns_steps, h.eps, h.ns_dtype, over)


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, work=iteration_work, spread=spread)
def muon(
    learning_rate: Value = 1e-3,
    *,
    weight_decay: Value = 0.1,
    momentum: Value = 0.95,
    eps: Value = 1e-7,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    adjust_lr: Literal["original", "match_rms_adamw"] | None = None,
    kernels: Literal["out_in", "in_out"] = "out_in",
    ns_dtype: str = "bfloat16",
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """Momentum orthogonalised by Newton-Schulz, as `torch.optim.Muon`; for matrices only.

    With η the learning rate, λ the weight decay and μ the momentum:

        B ← B + (1 − μ)·(G − B)
        U ← G + μ·(B − G) with nesterov, else B
        X ← U·Vᵀ of U's singular value decomposition, nearly (see `newton_schulz`)
        P ← P·(1 − η·λ) − η·s·X

    with s = √max(1, outputs / inputs), or 0.2·√max(outputs, inputs) for `"match_rms_adamw"`.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `weight_decay`: λ ≥ 0, decoupled; it multiplies η, not η·s.
    - `momentum`: μ ≥ 0. B is an average of gradients, not Jordan's sum μ·B + G: the same
      direction at another scale.
    - `eps`: the least norm that Newton-Schulz divides by.
    - `nesterov`: look ahead.
    - `ns_coefficients`, `ns_steps`: the polynomial (a, b, c) and how often it is applied, fewer
      than 100 times. A row of triples has one for each step, of which the last goes on;
      `"polar_express"` is that of Amsel et al., 2025, made for 5 steps of bfloat16.
    - `adjust_lr`: which s; `None` is `"original"`, Jordan's. `"match_rms_adamw"` (Moonshot)
      lets learning rate and decay be taken over from AdamW.
    - `kernels`: how a matrix is stored: `"out_in"` as torch's `Linear`, `"in_out"` as flax's
      `Dense` and `Linear`. It decides which axis counts as outputs in s, and by rounding alone
      which way round a square matrix enters Newton-Schulz.
    - `ns_dtype`: the dtype between the products of Newton-Schulz, bfloat16 as in torch.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `momentum_buffer` like the parameters.

    **Raises:** `ConfigError` for a number out of range or an unknown choice; `TreeError` for a
    parameter that is no matrix, or complex. Embeddings, heads and vectors want another
    optimizer: `jopt.recipes.muon_adamw` routes them.

    Matrices of one shape are orthogonalised as one batch, on the CPU with torch's roundings, on
    other platforms in a cheaper order of the same arithmetic. torch 2.13 normalises a bfloat16
    buffer in place when nesterov is off; here the buffer stays.

    Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu
    et al., 2025, "Muon is scalable for LLM training", equation 4, for `"match_rms_adamw"`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.muon(1.0, weight_decay=0.0, ns_steps=10, ns_coefficients=(1.5, -0.5, 0.0))
    >>> params = {"w": jnp.zeros((2, 2))}
    >>> updates, state = tx.update({"w": jnp.diag(jnp.array([3.0, 2.0]))}, tx.init(params), params)
    >>> jnp.round(updates["w"]) + 0.0
    Array([[-1.,  0.],
           [ 0., -1.]], dtype=float32)
    """
    check_shapes("muon", adjust_lr, kernels, "original", "match_rms_adamw")
    return checked_iteration("muon", ns_coefficients, ns_steps, ns_dtype)
