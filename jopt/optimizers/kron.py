"""PSGD with Kronecker factors: a preconditioner that whitens gradients, fitted as they come."""

from __future__ import annotations

import functools
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, is_one_of
from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Value, matrixwise, optimizer
from jopt.core.bases import axis_slot
from jopt.core.checks import check_count
from jopt.core.matrix_runs import Run
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import Together, as_one, debias, in_shares, lerp, norm_of_each, once_if
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
    options={
        "max_size": None,
        "diagonal": None,
        "momentum_fits": None,
        "spread": None,
        "update_every": None,
    },
    unsaid={"spread": False, "update_every": 32},
    gives="direction",
    decay="step",
    counts=True,
    complex="no",
    params_by=("weight_decay",),
)


def prepare(h: Any) -> dict[str, Any]:
    """The key of this step, and which factors are fitted at it, and whether they are balanced.

    At a fraction `a` of the steps it is those of all matrices, where one share at each step is less
    than is asked for; at others those of a share.
    """
    key = jax.random.key(h.seed.astype(jnp.uint32), impl=IMPL)
    key, one, two = jax.random.split(jax.random.fold_in(key, h.t.astype(jnp.uint32)), 3)
    p = h.update_probability
    if p is None:
        p = jnp.clip(jnp.exp(-0.001 * (h.t - 500)), 0.03, 1)
    every = h.update_every if h.spread else 1
    p, a = p.astype(jnp.float32), jnp.zeros((), jnp.float32)
    if every > 1:
        a = jnp.maximum(0, (p - 1 / every) / (1 - 1 / every))
        p = a + (1 - a) * jnp.minimum(1, every * p)
    drawn = jax.random.uniform(one, (), jnp.float32)
    return {
        "key": key,
        "all": drawn < a,
        "some": drawn < p,
        "turn": jnp.mod(h.t - 1, every),
        "balancing": jax.random.uniform(two, (), jnp.float32) < 0.01,
        "k1": 1 if h.b1 is None else 1 / debias(h.b1, h.t),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> Run:
    """See `kron`."""
    return ((yield g), {}) if g.ndim == 2 else (yield g, vars(s))


def batch(x: Any, s: Any, h: Any) -> Together:
    """What becomes of a stack of parameters, and of what is kept beside them."""
    new, m = {}, x
    if h.b1 is not None:
        new["mu"] = lerp(s.mu, x, 1 - h.b1)
        # What is put together reads what is written, and does not make it anew.
        m = jax.lax.optimization_barrier(new["mu"])
    held = axes_of(x.shape[1:], vars(h))
    if not held:
        return h.k1 * m, new
    names = {k: f"triangle_{k}" if full else f"diagonal_{k}" for k, full in held.items()}
    old = {k: getattr(s, name) for k, name in names.items()}
    qs = yield functools.partial(renewed, h=h), (m if h.momentum_fits else x, old)
    d = yield as_one(functools.partial(directed, h=h)), (m, qs)
    return alike(d.reshape(m.shape), m), new | {names[k]: q for k, q in qs.items()}


def rows(x: Any) -> Any:
    """A parameter whole, a number as a vector."""
    return whole(x, *range(x.ndim)).reshape(x.shape or (1,))


def renewed(of: Any, h: Any) -> Any:
    """The factors for this step, of all parameters of these stacks.

    Only matrices take turns: a vector alone, as it is on a mesh, would have another one.
    """
    # What is learnt with a preconditioner has a derivative, it has none.
    of = jax.lax.stop_gradient(of)
    used, old = [x for x, _ in of], [qs for _, qs in of]
    spread = h.spread and used[0].ndim == 3
    if spread:
        used = [whole(x, *range(x.ndim)) for x in used]

    def fit(of: Any) -> Any:
        x, qs = rows(of[0]), {k: whole(q, *range(q.ndim)) for k, q in of[1].items()}
        x = h.k1 * x if h.momentum_fits else x
        v = drawn(h.key, x)
        damp = float(jnp.finfo(jnp.float32).eps) ** 0.5 * jnp.mean(jnp.abs(x))
        qs = jax.lax.cond(h.balancing, balanced, dict, qs)
        return fitted(x + damp * v, v, qs, h.preconditioner_rate)

    def begun(qs: Any) -> Any:
        begin = jnp.where(h.t == 1, h.init_scale ** (1 / len(old[0])), 1)
        return jax.tree.map(lambda q: begin * q, qs)

    def all_fitted(qs: Any) -> Any:
        return as_one(jax.vmap(fit))([*zip(used, qs, strict=True)])

    fit_each = lambda *of: jax.vmap(fit)(of)  # noqa: E731
    due, some = in_shares(fit_each, used, h.turn, h.update_every, spread)
    ways, which = [lambda qs: qs, some], (h.some & due).astype(jnp.int32)
    if h.spread:
        ways.append(all_fitted)
        which = jnp.where(h.all, 2, which)

    def lying(way: Any) -> Any:
        # On a mesh whose axes are explicit all ways must give their results split alike.
        return lambda qs: jax.tree.map(alike, way(qs), old)

    def now(qs: Any) -> Any:
        if spread:
            qs = jax.tree.map(lambda q: whole(q, *range(q.ndim)), qs)
        return jax.lax.switch(which, [*map(lying, ways)], begun(qs))

    return once_if((which > 0) | (h.t == 1), now, old)


def drawn(key: Any, like: Any) -> Any:
    """Normal numbers, for a tall matrix those of a wide one, turned over."""
    over = like.ndim == 2 and like.shape[0] > like.shape[1]
    v = jax.random.normal(key, like.shape[::-1] if over else like.shape, like.dtype)
    return v.T if over else v


def directed(of: Any, h: Any) -> Any:
    """The directions of a stack."""
    m, qs = of
    m = h.k1 * m
    d = jax.vmap(lambda m, qs: multiplied(multiplied(rows(m), qs), qs, turned=True))(m, qs)
    if h.max_rms is not None:
        d = d / jnp.maximum(1, norm_of_each(d) / ((d.size // len(d)) ** 0.5 * h.max_rms))
    return d


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
    spread: bool = False,
    update_every: int = 32,
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
    - `spread`: fit the factors of a share of the matrices of a shape at every step, where else
      all are fitted at one, see `soap`; each as often. Probabilities above 1/f have fits of all
      beside.
    - `update_every`: f ≥ 1: with `spread` each has its turn at every f-th step.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `seed`: a whole number up to 2²⁴. What is drawn follows from it and t.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`. `axes` says what of a leaf is a matrix.

    **State:** `mu` like the parameters; of the last axis `triangle_1`, n×n, or `diagonal_1`, n
    numbers, and so up to the fourth from the last; all in at least float32; and the step count. No
    `state_dtype` stores factors in fewer bits.

    **Raises:** `ConfigError` for a number out of range, `TreeError` for a complex parameter.

    Source: Li, 2018, "Preconditioned stochastic gradient descent", and 2024, "Stochastic Hessian
    fittings with Lie groups", as in `psgd-jax`. There a counter says when
    factors are fitted, here a draw; and the entries that balance them are rounded to float32
    (`_balance_Q`), without which both take the same steps, to 10⁻¹¹ of their way in 50. Factors
    stop growing before their product with a gradient leaves the range; there those of a gradient
    that stays 0 grow to infinity.

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
    return {
        "max_size": check_count("kron", "max_size", max_size, 0, "entries"),
        "update_every": check_count("kron", "update_every", update_every, 1),
    }
