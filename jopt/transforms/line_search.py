"""How far to go along the step that an optimizer proposes: line searches as links of a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_one_of, whole_number
from jopt.core import Hyper, Slot, Spec, Value, optimizer, treewise
from jopt.numerics import backtracking, strong_wolfe, vector_dot, vector_max

FOUND = (
    Slot("step_size", init=1.0, scope="group"),
    Slot("evaluations", scope="group", dtype="int32"),
)
NEEDS: Any = {
    "slots": FOUND,
    "extra": ("value_fn",),
    "optional": ("value", "grad"),
    "steps": False,
    "needs_params": True,
}

BACK = Spec(
    "scale_by_backtracking_linesearch",
    (
        Hyper("slope_rtol", "[0, 1)"),
        Hyper("decrease_factor", "(0, 1)"),
        Hyper("increase_factor", "[1, inf]"),
        Hyper("max_learning_rate", "(0, inf)"),
        Hyper("atol", "[0, inf)"),
        Hyper("rtol", "[0, inf)"),
    ),
    options={"max_backtracking_steps": None},
    **NEEDS,
)
ZOOM = Spec(
    "scale_by_zoom_linesearch",
    (
        Hyper("slope_rtol", "(0, 1)"),
        Hyper("curv_rtol", "(0, 1)"),
        Hyper("max_learning_rate", "(0, inf)", optional=True),
        Hyper("tol", "[0, inf)"),
        Hyper("increase_factor", "[1.01, inf)"),
        Hyper("approx_dec_rtol", "[0, inf)", optional=True),
        Hyper("stepsize_precision", "[0, inf)"),
    ),
    options={"max_linesearch_steps": None, "initial_guess_strategy": None},
    **NEEDS,
)


def along(u: list[Array], p: list[Array], h: Any) -> Callable[[Array], Array]:
    """φ(t) = f(p + t·u)."""

    def value(t: Array) -> Array:
        at = [x + t.astype(x.dtype) * d for x, d in zip(p, u, strict=True)]
        found: Array = h.value_fn(at).astype(t.dtype)
        return found

    return value


def at_start(value: Any, u: list[Array], t: Array, h: Any) -> tuple[Array, Array, int]:
    """φ(0) and φ′(0), and how many evaluations they cost."""
    if h.value is not None and h.grad is not None:
        slope = vector_dot(h.grad, u).astype(t.dtype)
        return jnp.asarray(h.value).astype(t.dtype), slope, 0
    return *jax.value_and_grad(value)(jnp.zeros_like(t)), 1


def ended(u: list[Array], t: Array, s: Any, number: Array) -> tuple[Any, dict[str, Any]]:
    """The step of this length, and the slots."""
    # Chosen where t is 0: a direction that is not finite must not move anything either.
    steps = [jnp.where(t == 0, 0, t.astype(d.dtype) * d) for d in u]
    most = jnp.iinfo(jnp.int32).max
    total = jnp.where(s.evaluations > most - number, most, s.evaluations + number)
    return steps, {"step_size": t, "evaluations": total}


def by_backtracking(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `scale_by_backtracking_linesearch`."""
    last, value = s.step_size.astype(h.rtol.dtype), along(u, p, h)
    f, slope, cost = at_start(value, u, last, h)
    longer = jnp.minimum(h.increase_factor * last, h.max_learning_rate)
    t, number = backtracking(
        value,
        # After a search without a result anew: from 0 it would never get away.
        jnp.where(last > 0, longer, h.max_learning_rate),
        f,
        slope,
        max_steps=h.max_backtracking_steps,
        shrink=h.decrease_factor,
        c1=h.slope_rtol,
        rtol=h.rtol,
        atol=h.atol,
    )
    return ended(u, t, s, number + cost)


def by_zoom(u: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `scale_by_zoom_linesearch`."""
    last, value = s.step_size.astype(h.slope_rtol.dtype), along(u, p, h)
    f, slope, cost = at_start(value, u, last, h)

    def evaluate(t: Array) -> tuple[Array, Any, Array]:
        found, slope = jax.value_and_grad(value)(t)
        return found, (), slope

    keeps = h.initial_guess_strategy == "keep"
    largest = vector_max(u).astype(last.dtype)
    trial = jnp.where(last > 0, last, 1) if keeps else jnp.ones_like(last)
    if h.max_learning_rate is not None:
        trial = jnp.minimum(trial, h.max_learning_rate)
    found = strong_wolfe(
        evaluate,
        trial,
        f,
        (),
        slope,
        d_max=largest,
        max_steps=h.max_linesearch_steps,
        tolerance=h.stepsize_precision * largest,
        go=slope < 0,
        c1=h.slope_rtol,
        c2=h.curv_rtol,
        t_max=h.max_learning_rate,
        stretch=h.increase_factor,
        slack=h.tol,
        approx=h.approx_dec_rtol,
    )
    return ended(u, found.t, s, found.evaluations.astype(jnp.int32) + cost)


@optimizer(BACK, by_backtracking, door=treewise)
def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    *,
    slope_rtol: Value = 1e-4,
    decrease_factor: Value = 0.8,
    increase_factor: Value = 1.5,
    max_learning_rate: Value = 1.0,
    atol: Value = 0.0,
    rtol: Value = 0.0,
) -> None:
    """u ← t·u, with t shortened until the loss falls enough: behind an optimizer.

    With φ(t) = f(p + t·u), from t = min(increase·last, largest) on:

        t ← decrease·t    until φ(t) ≤ (1 + rtol)·φ(0) + c·t·φ′(0) + atol

    `update(..., value_fn=f)` needs the loss as a function of the parameters. With `value=` and
    `grad=` of where they are, it need not be evaluated there again. Where no trial is below φ(0),
    there is no step, and the next search begins with the largest; optax's would stay at 0.

    **Arguments** (defaults are optax's):

    - `max_backtracking_steps`: how many trials may follow the first, at least 0.
    - `slope_rtol`: c in [0, 1).
    - `decrease_factor` in (0, 1), `increase_factor` ≥ 1 (`inf`: always from the largest),
      `max_learning_rate` > 0: see above.
    - `atol`, `rtol` ≥ 0: by how much the loss may rise.

    **State:** `step_size`: the last t, 0 where there was no step; `evaluations` of f so far.

    **Raises:** `ConfigError` for a number out of range, and without `value_fn=`.

    Source: Armijo, 1966; Vaswani et al., 2019, "Painless stochastic gradient", for the step that
    grows again.

    >>> import jax, jax.numpy as jnp, jopt
    >>> f = lambda p: jnp.sum(jnp.square(p["w"]))
    >>> tx = jopt.chain(jopt.sgd(1.0), jopt.scale_by_backtracking_linesearch(15))
    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> updates, state = tx.update(jax.grad(f)(params), tx.init(params), params, value_fn=f)
    >>> found = jopt.metrics(state)["scale_by_backtracking_linesearch/step_size"]
    >>> round(float(found), 4)
    0.8
    """
    who = "scale_by_backtracking_linesearch"
    _check_count(who, "max_backtracking_steps", max_backtracking_steps, 0)


@optimizer(ZOOM, by_zoom, door=treewise)
def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    *,
    max_learning_rate: Value | None = None,
    tol: Value = 0.0,
    increase_factor: Value = 2.0,
    slope_rtol: Value = 1e-4,
    curv_rtol: Value = 0.9,
    approx_dec_rtol: Value | None = 1e-6,
    stepsize_precision: Value = 1e-5,
    initial_guess_strategy: Literal["keep", "one"] = "keep",
) -> None:
    """u ← t·u, with t from a search for the strong Wolfe conditions: behind an optimizer.

    With φ(t) = f(p + t·u), t is such that φ(t) ≤ φ(0) + c₁·t·φ′(0) and |φ′(t)| ≤ c₂·|φ′(0)|,
    found by bracketing and zooming as in `jopt.lbfgs`. `update(..., value_fn=f)` is as for
    `scale_by_backtracking_linesearch`. Along a direction that does not descend, and where no trial
    is below φ(0), there is no step. So near to a minimum that rounding leaves nothing of
    differences of φ, φ(t) ≤ φ(0) + ε·|φ(0)| and φ′(t) ≤ (2·c₁ − 1)·φ′(0) stand for the first.

    **Arguments** (defaults are optax's):

    - `max_linesearch_steps`: how many trials may follow the first, at least 0.
    - `max_learning_rate`: the longest step, or `None`; where φ falls still there, it is taken.
    - `tol`: ≥ 0, by how much either condition may fail.
    - `increase_factor`: ≥ 1.01, how many times as long as the last a trial may be, while it falls.
    - `slope_rtol`: c₁ in (0, 1); `curv_rtol`: c₂ in (0, 1).
    - `approx_dec_rtol`: ε ≥ 0, or `None`.
    - `stepsize_precision`: ≥ 0; zooming ends when the bracket is shorter.
    - `initial_guess_strategy`: the first trial: `"keep"`, the last t, or `"one"`.

    **State:** `step_size`: the last t, 0 where there was no step; `evaluations` of f so far.

    **Raises:** `ConfigError` for a number out of range, an unknown strategy, and without
    `value_fn=`.

    Source: Nocedal and Wright, 2006, algorithms 3.5 and 3.6; Hager and Zhang, 2006, equations 23
    and 27. Trials are minima of cubics, where optax doubles and halves, so that lengths differ.

    >>> import jax, jax.numpy as jnp, jopt
    >>> f = lambda p: jnp.sum(jnp.square(p["w"]))
    >>> tx = jopt.chain(jopt.sgd(1.0), jopt.scale_by_zoom_linesearch(15))
    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> updates, state = tx.update(jax.grad(f)(params), tx.init(params), params, value_fn=f)
    >>> print(jopt.metrics(state)["scale_by_zoom_linesearch/step_size"].round(2))
    0.5
    """
    who = "scale_by_zoom_linesearch"
    _check_count(who, "max_linesearch_steps", max_linesearch_steps, 0)
    if not is_one_of(initial_guess_strategy, "keep", "one"):
        raise ConfigError(
            who,
            "there is no such first trial",
            expected="initial_guess_strategy='keep' or 'one'",
            found=repr(initial_guess_strategy)[:100],
        )


def _check_count(who: str, name: str, given: Any, least: int) -> None:
    if whole_number(who, name, given, least, of="trials") >= 2**30:
        raise ConfigError(who, f"{name} is too large", expected="below 2**30", found=given)
