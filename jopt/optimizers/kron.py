"""PSGD with Kronecker factors: a preconditioner that whitens gradients, fitted as they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Value, matrixwise, optimizer
from jopt.core.bases import axis_slot
from jopt.core.checks import check_count
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import debias, lerp, norm
from jopt.numerics.eigenbases import alike
from jopt.numerics.explicit import whole
from jopt.numerics.noise import IMPL
from jopt.numerics.triangular import balanced, fitted, multiplied
from jopt.transforms.noise import SEED, check_seed

AXES = 4
"""How many axes from the last may have a factor."""


def axes_of(shape: tuple[int, ...], on: Any) -> dict[int, bool]:
    """Which axes have a factor, by their numbers from the last, and whether it is triangular."""
    shape = shape or (1,)
    held = range(1, 1 + min(len(shape), AXES)) if 0 not in shape else ()
    longest = max(held, key=lambda k: (shape[-k], -k), default=0)
    off = {"none": {*held}, "all": set(), "one": {*held} - {longest}}[on["diagonal"]]
    return {k: k in off and len(shape) > 1 and 1 < shape[-k] <= on["max_size"] for k in held}


def _triangle(k: int) -> Slot:
    def shape(of: tuple[int, ...], on: Any) -> tuple[int, ...]:
        return (of[-k], of[-k])

    def fits(of: tuple[int, ...], on: Any) -> bool:
        return axes_of(of, on).get(k, False)

    def init(p: Any) -> Any:
        return jnp.eye(p.shape[-k])

    return axis_slot("triangle", k, shape=shape, init=init, fits=fits)


def _diagonal(k: int) -> Slot:
    def shape(of: tuple[int, ...], on: Any) -> tuple[int, ...]:
        return ((of or (1,))[-k],)

    def fits(of: tuple[int, ...], on: Any) -> bool:
        return not axes_of(of, on).get(k, True)

    return axis_slot("diagonal", k, shape=shape, init=1.0, fits=fits)


SPEC = Spec(
    name="kron",
    hypers=(
        RATE,
        Hyper("b1", "[0, 1)", optional="zero"),
        Hyper("preconditioner_rate", "[0, inf)"),
        Hyper("update_probability", "[0, 1]", optional=True),
        Hyper("init_scale", "(0, inf)"),
        Hyper("max_rms", "(0, inf)", optional=True),
        SEED,
        DECAY,
    ),
    slots=(
        Slot("mu", when=lambda on: on["b1"], owned=True),
        *(made(k) for made in (_triangle, _diagonal) for k in range(1, 1 + AXES)),
    ),
    options={"max_size": None, "diagonal": None, "momentum_fits": None},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """The key of this step, and whether factors are fitted and balanced at it."""
    key = jax.random.key(h.seed.astype(jnp.uint32), impl=IMPL)
    key, one, two = jax.random.split(jax.random.fold_in(key, h.t.astype(jnp.uint32)), 3)
    share = h.update_probability
    if share is None:
        share = jnp.clip(jnp.exp(-0.001 * (h.t - 500)), 0.03, 1)
    return {
        "key": key,
        "due": jax.random.uniform(one, (), jnp.float32) < share.astype(jnp.float32),
        "balancing": jax.random.uniform(two, (), jnp.float32) < 0.01,
        "k1": 1 if h.b1 is None else 1 / debias(h.b1, h.t),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `kron`."""
    return ((yield g), {}) if g.ndim == 2 else lines(g, s, h)


def batch(x: Any, s: Any, h: Any) -> Any:
    """What becomes of a stack of wide matrices, and of what is kept beside them."""
    return jax.vmap(lambda g, own: lines(g, SimpleNamespace(**own), h))(x, vars(s))


def lines(g: Any, s: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """The direction, and new slots."""
    new, m = {}, g
    if h.b1 is not None:
        new["mu"] = lerp(s.mu, g, 1 - h.b1)
        m = h.k1 * new["mu"]
    held = axes_of(g.shape, vars(h))
    if not held:
        return m, new
    names = {k: f"triangle_{k}" if full else f"diagonal_{k}" for k, full in held.items()}
    old = {k: getattr(s, name) for k, name in names.items()}
    begin = jnp.where(h.t == 1, h.init_scale ** (1 / len(held)), 1)
    seen, ahead = (whole(x, *range(x.ndim)).reshape(x.shape or (1,)) for x in (g, m))
    used = ahead if h.momentum_fits else seen
    # What is learnt with a preconditioner has a derivative, it has none.
    used, begun = jax.lax.stop_gradient((used, {k: begin * q for k, q in old.items()}))

    def fit() -> dict[int, Any]:
        v = jax.random.normal(h.key, used.shape, used.dtype)
        damp = float(jnp.finfo(jnp.float32).eps) ** 0.5 * jnp.mean(jnp.abs(used))
        qs = {k: whole(q, *range(q.ndim)) for k, q in begun.items()}
        qs = jax.lax.cond(h.balancing, balanced, dict, qs)
        made = fitted(used + damp * v, v, qs, h.preconditioner_rate)
        return {k: alike(q, old[k]) for k, q in made.items()}

    qs = jax.lax.cond(h.due, fit, lambda: begun)
    d = multiplied(multiplied(ahead, qs), qs, turned=True)
    if h.max_rms is not None:
        d = d / jnp.maximum(1, norm(d) / (d.size**0.5 * h.max_rms))
    return alike(d.reshape(g.shape), g), new | {names[k]: q for k, q in qs.items()}


@optimizer(SPEC, rule, door=matrixwise, batch=batch, alike=True, prepare=prepare)
def kron(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.9,
    preconditioner_rate: Value = 0.1,
    update_probability: Value | None = None,
    init_scale: Value = 1.0,
    max_rms: Value | None = 1.1,
    max_size: int = 8192,
    diagonal: Literal["none", "one", "all"] = "none",
    momentum_fits: bool = True,
    weight_decay: Value = 0.0,
    seed: Number = 0,
    **common: Unpack[Decoupled],
) -> dict[str, Any]:
    """PSGD Kron: a preconditioner of a triangular factor for each axis, which whitens gradients.

    With η the learning rate, λ the weight decay, for a matrix with factors Q and P, and V of
    independent normal entries:

        M ← β·M + (1 − β)·G,  M̂ = M / (1 − βᵗ)
        at some steps:
            A = Q·M̂·Pᵀ,  B = Q⁻ᵀ·V·P⁻¹
            Q ← Q − μ·triu(A·Aᵀ − B·Bᵀ)·Q / ‖A·Aᵀ + B·Bᵀ‖
            P ← P − μ·triu(Aᵀ·A − Bᵀ·B)·P / ‖Aᵀ·A + Bᵀ·B‖
        D ← QᵀQ·M̂·PᵀP
        D ← D / max(1, RMS(D) / 1.1)
        p ← p·(1 − η·λ) − η·D

    Nothing is decomposed or inverted: a fit costs products and two triangular systems. A vector
    has a diagonal Q.

    **Arguments** (defaults are those of `psgd-jax`):

    - `learning_rate`: η ≥ 0, a number or a schedule; about a third of Adam's.
    - `b1`: β in [0, 1). Off, or the number 0, keeps no `mu`.
    - `preconditioner_rate`: μ ≥ 0.
    - `update_probability`: how often factors are fitted, a number in [0, 1] or a schedule; `None`
      for 1 in the first 500 steps, then exp(−0.001·(t − 500)), and at least 0.03. All leaves fit at
      the same steps.
    - `init_scale`: of Q at the first step.
    - `max_rms`: the longest D; `None` for any.
    - `max_size`: a longer axis has a diagonal factor.
    - `diagonal`: which other axes have one: `"none"`, the longest `"one"`, or `"all"`.
    - `momentum_fits`: whether M̂ is whitened, or G.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `seed`: a whole number up to 2²⁴. What is drawn follows from it and t.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. `axes` says what of a leaf is a matrix.

    **State:** `mu` like the parameters; of the last axis `triangle_1`, n×n, or `diagonal_1`, n
    numbers, and so up to the fourth from the last; all in at least float32; and the step count. No
    `state_dtype` stores factors in fewer bits.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter.

    Source: Li, 2018, "Preconditioned stochastic gradient descent", and 2024, "Stochastic Hessian
    fittings with Lie groups", as in `psgd-jax`. There a counter says when factors are fitted, here
    a draw. Factors stop growing before their product with a gradient leaves the range; there those
    of a gradient that stays 0 grow to infinity.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.kron(0.1)
    >>> params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}
    >>> state = tx.init(params)["kron"]
    >>> [state[f"triangle_{k}"]["w"].shape for k in (2, 1)], state["diagonal_1"]["b"].shape
    ([(3, 3), (2, 2)], (2,))
    """
    if not is_one_of(diagonal, "none", "one", "all"):
        raise ConfigError(
            "kron",
            "diagonal is unknown",
            expected="'none', 'one' or 'all'",
            found=repr(diagonal),
        )
    check_seed("kron", int(seed) if isinstance(seed, float) and seed.is_integer() else seed)
    return {"max_size": check_count("kron", "max_size", max_size, 0, "entries")}
