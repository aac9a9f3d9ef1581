"""APOLLO: gradients scaled by what Adam makes of a random projection of them."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Value, optimizer
from jopt.core.checks import check_count
from jopt.core.vocabulary import B1, B2, DECAY, EPS, RATE
from jopt.numerics import adam_moments, debias, norm, safe_sqrt, scaled_norms_along
from jopt.numerics.explicit import laid
from jopt.numerics.noise import IMPL
from jopt.transforms.noise import SEED, check_seed


def projected(shape: tuple[int, ...], on: Any) -> bool:
    """Whether a parameter of this shape is a matrix that is larger than its projection."""
    return len(shape) == 2 and min(shape) > on["rank"]


def small(shape: tuple[int, ...], on: Any) -> tuple[int, ...]:
    """The shape of the moments: the shorter axis is projected."""
    if not projected(shape, on):
        return shape
    m, n = shape
    return (on["rank"], n) if m < n else (m, on["rank"])


SPEC = Spec(
    name="apollo",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("scale", "[0, inf)"),
        Hyper("max_growth", "[1, inf)", optional=True),
        SEED,
        DECAY,
    ),
    slots=(
        Slot("mu", small),
        Slot("nu", small, signed=False),
        Slot("size", "scalar", fits=projected, when=lambda on: on["max_growth"], signed=False),
    ),
    options={"rank": None, "update_every": None, "per": None},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """What undoes both biases, the square root of the scale, and which projection it is."""
    return {
        "k": jnp.sqrt(debias(h.b2, h.t)) / debias(h.b1, h.t),
        "root": jnp.sqrt(h.scale),
        "turn": jnp.floor((h.t - 1) / h.update_every),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `apollo`."""
    low = projected(g.shape, vars(h))
    axis = 0 if low and g.shape[0] < g.shape[1] else 1
    r = _project(g, axis, h) if low else g
    mu, nu = adam_moments(r, s.mu, s.nu, h.b1, h.b2)
    new = {"mu": mu, "nu": nu}
    under = safe_sqrt(nu) + h.eps
    u = mu / jnp.where(under > 0, under, 1)
    if not low:
        return h.k * u, new
    if h.per == "tensor":
        by = norm(u) / (norm(r) + 1e-8)
    else:
        (f, above), (k, below) = (scaled_norms_along(x, (axis,)) for x in (u, r))
        by = above / f / (below / k + 1e-8)
    d = by * g
    if h.max_growth is not None:
        size = norm(d)
        # After a step of size 0 there is nothing to grow from.
        most = jnp.where(s.size > 0, h.max_growth * s.size, size)
        shrink = jnp.where(size > most, most / jnp.where(size > 0, size, 1), 1)
        d, new["size"] = shrink * d, shrink * size
    return h.k * h.root * d, new


def _project(g: Any, axis: int, h: Any) -> Any:
    """Pᵀ·g or g·P: this turn's, of entries with variance 1 / r; the same for all of a shape."""
    seed, turn = (x.astype(jnp.uint32) for x in (h.seed, h.turn))
    key = jax.random.fold_in(jax.random.key(seed, impl=IMPL), turn)
    drawn = jax.random.normal(
        key, (h.rank, g.shape[axis]), g.dtype, out_sharding=laid(g, None, axis)
    )
    along = drawn / math.sqrt(h.rank)
    if axis == 0:
        return jnp.matmul(along, g, out_sharding=laid(g, None, 1))
    return jnp.matmul(g, along.T, out_sharding=laid(g, 0, None))


@optimizer(SPEC, rule, prepare=prepare)
def apollo(
    learning_rate: Value = 1e-2,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-6,
    rank: int = 256,
    update_every: int = 200,
    scale: Value = 1.0,
    per: Literal["channel", "tensor"] = "channel",
    max_growth: Value | None = 1.01,
    weight_decay: Value = 0.0,
    seed: Number = 0,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """APOLLO: SGD whose step sizes are Adam's, seen in a random projection of the gradient.

    With η the learning rate, λ the weight decay, t the step from 1, g of m×n with m < n, and P of
    r×m with independent normal entries of variance 1 / r, a new one every T steps:

        R ← P·g;  g·Pᵀ if m ≥ n
        μ ← β₁·μ + (1 − β₁)·R;  ν ← β₂·ν + (1 − β₂)·R²
        s ← ‖μ / (√ν + ε)‖ / (‖R‖ + 10⁻⁸)      of each column, of each row if m ≥ n
        d ← s·g
        d ← d·min(1, γ·‖d₋‖ / ‖d‖)             with d₋ the d of the step before
        p ← p·(1 − η·λ) − η·√(1 − β₂ᵗ) / (1 − β₁ᵗ)·√α·d

    What is no matrix, or one whose shorter side is r at most, has AdamW's moments and step.
    APOLLO-Mini is `rank=1, per="tensor", scale=128`: μ and ν are then one row or column.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added before the bias correction, unlike Adam's.
    - `rank`: r ≥ 1.
    - `update_every`: T ≥ 1.
    - `scale`: α ≥ 0; 128 for APOLLO-Mini.
    - `per`: whether s is a number for each `"channel"`, or one for the `"tensor"`.
    - `max_growth`: γ ≥ 1, how much longer than the last d the next may be; `None` for any.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `seed`: a whole number up to 2²⁴. P follows from it, the shape and t:
      no state holds P.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. `axes` says what of a leaf of more axes is a matrix.

    **State:** `mu` and `nu` of r×n or m×r, for other leaves like the parameters, in at least
    float32; `size`, ‖d‖ of each matrix; and the step count.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter.

    Source: Zhu et al., 2025, "APOLLO: SGD-like memory, AdamW-level performance", algorithm 1, with
    ε and the bias correction as in the authors' code. There a step whose gradient is 0 holds
    all that follow to 10⁻⁸ of their length; here it holds none.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.apollo(1.0, rank=1, per="tensor")
    >>> params = {"w": jnp.zeros((4, 6)), "b": jnp.zeros(6)}
    >>> state = tx.init(params)
    >>> {k: x.shape for k, x in state["apollo"]["mu"].items()}
    {'b': (6,), 'w': (1, 6)}
    """
    if not is_one_of(per, "channel", "tensor"):
        raise ConfigError(
            "apollo", "per is unknown", expected="'channel' or 'tensor'", found=repr(per)
        )
    # A number of the state, which has floats, and which an edit may change.
    check_seed("apollo", int(seed) if isinstance(seed, float) and seed.is_integer() else seed)
    return {
        "rank": check_count("apollo", "rank", rank, 1, "rows"),
        "update_every": check_count("apollo", "update_every", update_every, 1),
    }
