"""Shampoo: gradients multiplied by roots of what they have in common along each axis."""

from __future__ import annotations

import functools
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Decoupled, Hyper, Slot, Spec, Transform, Value, matrixwise, optimizer
from jopt.core.bases import axis_slot, of_one
from jopt.core.checks import check_count
from jopt.core.grafted import Graft, grafting
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import (
    Together,
    as_one,
    debias,
    in_shares,
    lerp,
    norm,
    norm_of_each,
    once_if,
    safe_sqrt,
)
from jopt.numerics.eigenbases import alike
from jopt.numerics.explicit import whole
from jopt.numerics.inverse_roots import inverse_roots
from jopt.numerics.tiles import Tiles, grams, multiplied, tiles_of

AXES = 4
"""How many axes from the last may have a factor."""


def sides(shape: tuple[int, ...], on: Any) -> list[int]:
    """Which axes have factors, by their numbers from the last one, which is 1."""
    if len(shape) < (1 if on["vectors"] else 2) or 0 in shape:
        return []
    return [*range(1, 1 + min(len(shape), AXES))]


def _tiles(shape: tuple[int, ...], on: Any) -> Tiles:
    return tiles_of(shape, on["block_size"])


def _side(name: str, k: int) -> Slot:
    """The square arrays of the k-th axis from the last, one for each tile."""

    def shape(of: tuple[int, ...], on: Any) -> tuple[int, ...]:
        tiles, count = _tiles(of, on), 1
        for n, _ in tiles:
            count *= n
        return (count, tiles[-k][1], tiles[-k][1])

    def fits(of: tuple[int, ...], on: Any) -> bool:
        return k in sides(of, on)

    return axis_slot(name, k, shape=shape, fits=fits)


SPEC = Spec(
    name="shampoo",
    hypers=(
        RATE,
        Hyper("b1", "[0, 1)", optional="zero"),
        Hyper("b2", "[0, 1]"),
        EPS,
        Hyper("ridge", "[0, 1)"),
        Hyper("graft_eps", "[0, inf)"),
        DECAY,
    ),
    slots=(
        Slot("mu", when=lambda on: on["b1"], owned=True),
        Slot("nu", when=lambda on: on["graft"] == "adam", signed=False, owned=True),
        *(_side(name, k) for name in ("factor", "root") for k in range(1, 1 + AXES)),
    ),
    options={
        "graft": None,
        "block_size": None,
        "update_every": None,
        "start": None,
        "power": None,
        "vectors": None,
        "method": None,
        "spread": None,
    },
    unsaid={"spread": False},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """What undoes biases; the weight of this step's squares; whether roots are due, and in use.

    A sum, which b2 = 1 makes, has no bias.
    """
    sums = h.b2 == 1
    inside = jnp.where(sums, 0.5, h.b2)
    return {
        "k1": 1 if h.b1 is None else 1 / debias(h.b1, h.t),
        "k2": jnp.where(sums, 1, 1 / debias(inside, h.t)),
        "weight": jnp.where(sums, 1, 1 - h.b2),
        **(h.graft.prepared(h) if isinstance(h.graft, Graft) else {}),
        "first": h.t == h.start,
        "turn": jnp.mod(h.t - h.start, h.update_every),
        "begun": h.t >= h.start,
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `shampoo`."""
    other: Any = None
    kept: dict[str, Any] = {}
    if isinstance(h.graft, Graft):
        other, kept = h.graft.direction(g, s, p, h)
    d, new = ((yield g), {}) if g.ndim == 2 else of_one(batch, g, s, h)
    if other is not None:
        d = jnp.where(h.begun, as_long(d, other), other) if sides(g.shape, vars(h)) else other
    return d, {**new, **kept}


def as_long(d: Any, other: Any) -> Any:
    """One direction with the length of the other."""
    size = norm(d)
    return norm(other) / jnp.where(size > 0, size, 1) * d


def batch(x: Any, s: Any, h: Any) -> Together:
    """What becomes of a stack of parameters, and of what is kept beside them.

    The direction has its own length where that is another transform's to say.
    """
    new: dict[str, Any] = {}
    m = other = x
    if h.b1 is not None:
        new["mu"] = lerp(s.mu, x, 1 - h.b1)
        # What is put together reads what is written, and does not make it anew.
        m, other = (h.k1 * mu for mu in (jax.lax.optimization_barrier(new["mu"]), new["mu"]))
    if h.graft == "adam":
        nu = new["nu"] = h.b2 * s.nu + h.weight * jnp.square(x)
        under = safe_sqrt(h.k2 * nu) + h.graft_eps
        other = other / jnp.where(under > 0, under, 1)
    held = sides(x.shape[1:], vars(h))
    if not held:
        return other, new
    tiles = _tiles(x.shape[1:], vars(h))
    made = yield as_one(jax.vmap(lambda g: grams(g, held, tiles))), x
    factors, roots = {}, {k: getattr(s, f"root_{k}") for k in held}
    # Sums of what is finite may not be, and would be NaN ever after.
    most = float(jnp.finfo(x.dtype).max) / 4
    for k in held:
        before = getattr(s, f"factor_{k}")
        sums = h.b2 * before + h.weight * alike(made[k], before)
        factors[k] = new[f"factor_{k}"] = jnp.clip(sums, -most, most)
    roots = yield functools.partial(renewed, h=h), (factors, roots)
    length = norm_of_each(other) if isinstance(h.graft, str) else ()
    d = alike((yield as_one(functools.partial(directed, tiles=tiles)), (m, roots, length)), m)
    if not isinstance(h.graft, Graft) and h.start > 1:
        d = jnp.where(h.begun, d, other)
    return d, new | {f"root_{k}": q for k, q in roots.items()}


def directed(of: Any, tiles: Any) -> Any:
    """The directions of a stack, which have these lengths if there are some."""
    m, roots, length = of
    d = jax.vmap(lambda m, roots: multiplied(m, roots, tiles))(m, roots)
    if isinstance(length, tuple):
        return d
    size = norm_of_each(d)
    return length / jnp.where(size > 0, size, 1) * d


def renewed(of: Any, h: Any) -> Any:
    """The roots for this step, of all tiles of these stacks."""
    old = jax.lax.stop_gradient([roots for _, roots in of])
    p, newton = 2 * len(old[0]) if h.power is None else h.power, h.method == "newton"
    rows = lambda x: whole(x, *range(x.ndim)).reshape(-1, *x.shape[-2:])  # noqa: E731
    factors = jax.tree.map(rows, jax.lax.stop_gradient([x for x, _ in of]))

    def found(of: Any, _: Any = None) -> Any:
        return {k: inverse_roots(h.k2 * x, p, h.eps, h.ridge, newton=newton) for k, x in of.items()}

    due, some = in_shares(found, factors, h.turn, h.update_every, h.spread)
    ways = [some]
    if h.spread:  # all at the first step with roots, and a share at others
        ways.append(lambda _: as_one(found)(factors))

    def now(held: Any) -> Any:
        made = jax.lax.switch(h.first.astype(jnp.int32), ways, jax.tree.map(rows, held))
        return jax.tree.map(lambda x, y: alike(x.reshape(y.shape), y), made, held)

    return once_if(h.begun & (due | h.first), now, old)


@optimizer(SPEC, rule, door=grafting(matrixwise), batch=batch, alike=True, prepare=prepare)
def shampoo(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-12,
    ridge: Value = 1e-6,
    graft: Transform | Literal["adam", "sgd"] | None = "adam",
    graft_eps: Value = 1e-8,
    block_size: int = 1024,
    update_every: int = 10,
    start: int = 1,
    power: int | None = None,
    vectors: bool = False,
    method: Literal["eigh", "newton"] = "eigh",
    spread: bool = False,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """Shampoo: a preconditioner for each axis of a parameter, with the step length of another rule.

    With η the learning rate, λ the weight decay and t the step from 1, for a matrix G:

        M ← β₁·M + (1 − β₁)·G
        L ← β₂·L + (1 − β₂)·G·Gᵀ,  R ← β₂·R + (1 − β₂)·Gᵀ·G;  sums if β₂ is 1
        S, T ← (L̂ + δ·I)^(−1/4), (R̂ + δ′·I)^(−1/4)      at every f-th step
        D ← S·M̂·T
        D ← D·‖A‖ / ‖D‖                                 with A the direction of another rule
        p ← p·(1 − η·λ) − η·D

    where a hat divides by 1 − βᵗ, and δ = ε + ρ·‖L̂‖. Each of a parameter's k axes, at most the last
    four, has a factor, and the root is the 2k-th. An axis longer than b is cut into parts, so
    that the parameter is of tiles, each with factors of its own. Vectors and numbers step along A.

    **Arguments** (β₁, β₂ and ε are Distributed Shampoo's, ρ is Google's):

    - `learning_rate`: η ≥ 0, a number or a schedule: Adam's with that graft.
    - `b1`: β₁ in [0, 1). Off, or the number 0, keeps no `mu`.
    - `b2`: β₂ in [0, 1]; 1 for the sums of the paper.
    - `eps`, `ridge`: ε ≥ 0 and ρ in [0, 1), what keeps eigenvalues from 0. In float32 rounding
      makes smaller ones than ρ = 10⁻⁶ meaningless.
    - `graft`: whose length D has: `"adam"`, with β₂ = 1 Adagrad's, of the same β₁ and β₂; `"sgd"`,
      M̂'s; `None`, its own. Or any optimizer with a direction that treats a leaf by itself, such as
      `jopt.rmsprop(decay=0.99)`: A is its direction, from G. Its learning rate and decay make no
      difference; its numbers and slots are in the state as `graft_decay` and so on.
    - `graft_eps`: the ε of A that a word names.
    - `block_size`: b ≥ 1.
    - `update_every`: f ≥ 1; between, roots are stale, and no program has any to find.
    - `start`: the first step with roots, at which f begins; before it D is A.
    - `power`: another root than the 2k-th.
    - `vectors`: whether vectors have a factor, too.
    - `method`: how roots are found: by eigenvectors, `"eigh"`, or by coupled `"newton"` iteration,
      which is products alone.
    - `spread`: find the roots of a share of the tiles of all matrices of a shape at every step,
      after those of all at the first, where else all are found at one, see `soap`.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. `axes` says what of a leaf is a matrix.

    **State:** `mu` and for Adam's length `nu` like the parameters; `factor_1` and `root_1` of the
    last axis, k×b×b for k tiles of side b, up to `factor_4` and `root_4`; all in at least float32;
    and the step count. Tiles are numbered row by row, of a tall matrix column by column. No
    `state_dtype` stores factors and roots in fewer bits.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter.

    Source: Gupta, Koren and Singer, 2018, "Shampoo: preconditioned stochastic tensor optimization",
    algorithm 2; Anil et al., 2021, for the ridge, tiles and Newton's iteration; Shi et al., 2023,
    for β₂ and bias correction. The ridge is of ‖L̂‖ where Google's is of the largest eigenvalue, and
    lengths are of a parameter, not of a tile. In float32 a gradient above 10¹⁹ counts in factors
    as much as the largest whose squares are finite.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.shampoo(0.1, graft=None)
    >>> params, g = {"w": jnp.zeros((2, 2))}, {"w": jnp.array([[3.0, 0.0], [0.0, 1.0]])}
    >>> jnp.round(tx.update(g, tx.init(params), params)[0]["w"], 3) + 0.0
    Array([[-0.1,  0. ],
           [ 0. , -0.1]], dtype=float32)
    """
    for name, value, known in (("graft", graft, GRAFTS), ("method", method, METHODS)):
        if not (is_one_of(value, *known) or (name == "graft" and isinstance(value, Transform))):
            more = " or an optimizer" if name == "graft" else ""
            raise ConfigError(
                "shampoo",
                f"{name} is unknown",
                expected=", ".join(map(repr, known)) + more,
                found=repr(value)[:100],
            )
    counts = {"block_size": block_size, "update_every": update_every, "start": start}
    made = {name: check_count("shampoo", name, value, 1) for name, value in counts.items()}
    return made | ({} if power is None else {"power": check_count("shampoo", "power", power, 1)})


GRAFTS, METHODS = (None, "adam", "sgd"), ("eigh", "newton")
