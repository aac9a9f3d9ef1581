"""Dion2: Muon of a part of the rows at a time."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError, plain
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
from jopt.core.some_rows import SomeRows
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import ALONE, Team, alike, largest, marked
from jopt.numerics.explicit import whole

SPEC = Spec(
    name="dion2",
    hypers=(RATE, DECAY, Hyper("momentum", "[0, 1]"), EPS),
    slots=(Slot("momentum_buffer"),),
    options={"fraction": None, **CHOICES},
    gives="direction",
    decay="step",
    complex="no",
    ndim=2,
    params_by=("weight_decay",),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `dion2`."""
    b = s.momentum_buffer + g
    axis = 0 if g.shape[0] <= g.shape[1] else 1
    count = min(g.shape[axis], max(1, math.ceil(h.fraction * g.shape[axis])))
    # Sizes count against each other only: of parts of the largest no sum leaves the range.
    top = jnp.max(jnp.abs(b), initial=0.0)
    sizes = jnp.sum(jnp.abs(b) / jnp.where(top > 0, top, 1), 1 - axis)
    rows = largest(whole(sizes, 0), count)
    x = yield SomeRows(b, rows, jnp.dtype(h.ns_dtype))
    kept = jnp.where(marked(g.shape, rows), h.momentum, 1).astype(g.dtype)
    scale = scale_of(g.shape, h.adjust_lr, h.kernels) if h.adjust_lr else 1.0
    return scale * x.astype(g.dtype), {"momentum_buffer": alike(kept * b, b)}


def batch(x: Any, h: Any, team: Team = ALONE) -> Any:
    """Newton-Schulz for all that was chosen of matrices of a shape."""
    return orthogonalised(x, h, h.eps, team)


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, work=iteration_work)
def dion2(
    learning_rate: Value = 1e-2,
    *,
    weight_decay: Value = 0.01,
    momentum: Value = 0.95,
    eps: Value = 1e-7,
    fraction: float = 0.25,
    ns_coefficients: Coefficients = "polar_express",
    ns_steps: int = 5,
    adjust_lr: Literal["original", "spectral", "match_rms_adamw"] | None = "spectral",
    kernels: Kernels = "out_in",
    ns_dtype: str = "bfloat16",
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """Dion2: Muon that orthogonalises the rows with most to say, and keeps the others for later.

    With η the learning rate and λ the weight decay, for a matrix with no more rows than columns;
    for others columns take the place of rows:

        B ← B + G
        I ← the α·m rows of B with the largest sums of absolute values
        X ← Newton-Schulz of B[I], see `muon`
        B[I] ← μ·B[I]
        P ← P·(1 − η·λ);  P[I] ← P[I] − η·s·X

    A step of Newton-Schulz costs α of Muon's products and less. What has to move where matrices
    are split is as much as Muon's, as rows may be anywhere, and a number for each row beside.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `weight_decay`: λ ≥ 0, decoupled, of all rows.
    - `momentum`: μ in [0, 1], what stays of the rows that were taken, the authors' `ef_decay`.
    - `eps`: the least norm that Newton-Schulz divides by.
    - `fraction`: α in (0, 1]; it decides shapes, so it is no number of the state.
    - `ns_coefficients`, `ns_steps`, `ns_dtype`, `kernels`: see `muon`.
    - `adjust_lr`: s is √(outputs / inputs) for `"spectral"`, √max(1, outputs / inputs) for
      `"original"`, 0.2·√max(outputs, inputs) for `"match_rms_adamw"`, else 1.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `momentum_buffer` like the parameters, in at least float32.

    **Raises:** `ConfigError` for a number out of range or an unknown choice; `TreeError` for a
    parameter that is no matrix, or complex: see `jopt.recipes.muon_adamw` and `jopt.route`.

    Source: Ahn et al., 2025, "Dion2: a simple method to shrink matrix in Muon", with the sums,
    the scale and the polynomials of the authors' code. On a mesh it chooses by whole matrices,
    where the code chooses by what a device has.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.dion2(1.0, fraction=0.5, weight_decay=0.0)
    >>> params = {"w": jnp.zeros((2, 2))}
    >>> updates, state = tx.update({"w": jnp.diag(jnp.array([3.0, 2.0]))}, tx.init(params), params)
    >>> jnp.round(updates["w"]) + 0.0, state["dion2"]["momentum_buffer"]["w"]
    (Array([[-1.,  0.],
           [ 0.,  0.]], dtype=float32), Array([[2.85, 0.  ],
           [0.  , 2.  ]], dtype=float32))
    """
    check_shapes("dion2", adjust_lr, kernels, "original", "spectral", "match_rms_adamw")
    share = plain(fraction)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(
            "dion2",
            "fraction is out of range",
            expected="(0, 1]",
            found=repr(fraction)[:100],
            fix="It decides shapes: for optax.inject_hyperparams, static_args=('fraction',).",
        )
    made = checked_iteration("dion2", ns_coefficients, ns_steps, ns_dtype)
    return made | {"fraction": float(share)}
