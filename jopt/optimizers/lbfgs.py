"""L-BFGS: a quasi-Newton method whose inverse Hessian is kept as its last steps."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from jopt.base import ConfigError, configured, is_one_of, whole_number
from jopt.core import Groups, Hyper, Slot, Spec, Transform, Value, treewise
from jopt.core.groups import check_groups
from jopt.core.spec import Options, Shape
from jopt.numerics import (
    QuasiNewton,
    Vector,
    descends,
    in_one_array,
    iterations,
    scale_for,
    turned,
    vector_within,
)
from jopt.numerics.explicit import stacked


def _evaluates(options: Options) -> bool:
    return options["max_iter"] > 1 or options["line_search"] is not None


def _history(shape: Shape, options: Options) -> Shape:
    return (options["history_size"], *shape)


def _products(shape: Shape, options: Options) -> Shape:
    return (options["history_size"],) * 2


def _row_products(shape: Shape, options: Options) -> Shape:
    return (options["history_size"],)


# Nothing is compressed: y is a small difference, and the products must fit the histories.
SPEC = Spec(
    name="lbfgs",
    torch="LBFGS",
    hypers=(
        Hyper("learning_rate", "[0, inf)", torch="lr"),
        Hyper("tolerance_grad", "[0, inf)", torch="tolerance_grad"),
        Hyper("tolerance_change", "[0, inf)", torch="tolerance_change"),
        Hyper("min_curvature", "[0, inf)"),
    ),
    slots=(
        Slot("s", shape=_history, torch="old_stps", compress=False, entries=True),
        Slot("y", shape=_history, torch="old_dirs", compress=False, entries=True),
        Slot("d", torch="d", compress=False),
        Slot("prev_grad", torch="prev_flat_grad", compress=False),
        Slot("leaf_iter", shape="scalar", compress=False, dtype="int32"),
        Slot("sy", shape=_products, scope="group"),
        Slot("yy", shape=_products, scope="group"),
        Slot("s_g", shape=_row_products, scope="group"),
        Slot("y_g", shape=_row_products, scope="group"),
        Slot("h_diag", init=1.0, torch="H_diag", scope="group"),
        Slot("t", torch="t", scope="group"),
        Slot("prev_loss", torch="prev_loss", scope="group", when=_evaluates),
        Slot("n_pairs", scope="group", dtype="int32"),
        Slot("n_leaves", scope="group", dtype="int32"),
        Slot("n_iter", torch="n_iter", scope="group", dtype="int32"),
        Slot("func_evals", torch="func_evals", scope="group", dtype="int32"),
    ),
    options={
        "max_iter": "max_iter",
        "max_eval": "max_eval",
        "history_size": "history_size",
        "line_search": "line_search_fn",
    },
    extra=lambda on: ("value_fn",) if _evaluates(on) else (),
    optional=("value",),
)


def rule(g: Vector, s: Any, p: Vector, h: Any) -> tuple[Vector, dict[str, Any]]:
    """See `lbfgs`."""
    model = QuasiNewton(*(getattr(s, name) for name in QuasiNewton._fields))
    # The pairs belong to the leaves of the last iteration. With others it starts anew.
    iters = stacked(s.leaf_iter)
    first = jnp.any(iters != s.n_iter) | (s.n_leaves != len(g)) | (s.n_iter == 0)
    model = model._replace(n_pairs=jnp.where(first, 0, s.n_pairs))
    go = ~vector_within(g, h.tolerance_grad)
    scale = scale_for(g, model.sy, model.yy, model.n_pairs, go)
    new: dict[str, Any] = {}
    if _evaluates(vars(h)):
        end = iterations(g, p, h, model, scale, first, go)
        steps = [x_new - x for x_new, x in zip(end.x, p, strict=True)]
        model, evaluations = end.model, end.evaluations
        new["prev_loss"] = jnp.where(go, end.prev_loss, s.prev_loss)
    else:
        model = turned(model, g, h.min_curvature, scale=scale, first=first, go=go)
        trial = jnp.where(first, scale.first_length(g), 1) * h.learning_rate
        t = jnp.where(descends(model, g, first, h.tolerance_change, scale), trial, 0)
        length, t = in_one_array(jnp.where(go, t, 0), jnp.where(go, t, s.t))
        steps = [length.astype(d.dtype) * d for d in model.d]
        model = model._replace(t=t)
        evaluations = jnp.int32(1)
    new["n_leaves"] = jnp.where(go, len(g), s.n_leaves)
    # With `first`, so that the old counts are known to be read by then, and need no copies.
    moved, n, _ = in_one_array(go.astype(jnp.int32), model.n_iter, first.astype(jnp.int32))
    new["leaf_iter"] = [jnp.where(moved > 0, n, i) for i in s.leaf_iter]
    return steps, {**model._asdict(), **new, "func_evals": s.func_evals + evaluations}


@configured("jopt.", SPEC.torch_names)
def lbfgs(
    learning_rate: Value = 1.0,
    *,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: Value = 1e-7,
    tolerance_change: Value = 1e-9,
    history_size: int = 100,
    line_search: Literal["strong_wolfe"] | None = None,
    min_curvature: Value = 1e-10,
    groups: Groups = None,
) -> Transform:
    """L-BFGS, as `torch.optim.LBFGS`: one `update` is one `step(closure)`.

    With H the inverse Hessian of the last m pairs (s, y), γ = sᵀy / yᵀy of the newest:

        d ← −H·g                   (−g at the first iteration)
        t ← η, or from the line search; min(1, 1/‖g‖₁)·η at the first iteration
        s ← t·d
        p ← p + s
        y ← ∇f(p) − g              (the pair is kept if sᵀy > κ)

    up to `max_iter` times in one compiled loop. It ends early once `max_eval` evaluations are
    spent, max|g| ≤ `tolerance_grad`, max|s| or the change of the value is within
    `tolerance_change`, or d descends by no more than `tolerance_change`.

    `update(grads, state, params, value_fn=f)` needs the function of the parameters, and uses
    the value at `params` if `value=` is given. With `max_iter=1` and no line search nothing is
    evaluated, and `value_fn` is not needed.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule; with a line search the first trial.
    - `max_iter`: iterations of one update, at least 1.
    - `max_eval`: evaluations of one update, the given gradient's included; `None` is
      `max_iter·5 // 4`. A line search may go one over it.
    - `tolerance_grad`, `tolerance_change`: ≥ 0, see above.
    - `history_size`: m, at least 1.
    - `line_search`: `"strong_wolfe"` or `None`. In the search a value or slope that is not
      finite counts as infinitely high, where torch would go on outwards.
    - `min_curvature`: κ ≥ 0. Torch's fixed 10⁻¹⁰ is large for a small or well converged problem,
      which then learns no more; with a line search 0 does.
    - `groups`: frozen ones only: a direction has one set of numbers.

    **State:** `s` and `y`, of shape (m, ...) for each parameter; `d` and `prev_grad` like the
    parameters; the products of the pairs, m × m; step length, scale and counters. There
    is no `state_dtype`: the products are of differences, which cancel in few bits.

    **Raises:** `ConfigError` for a number out of range, an unknown line search or a group that
    is not frozen.

    A complex parameter counts as two reals. Its gradient is ∂f/∂x + i·∂f/∂y as torch has it, the
    conjugate of what `jax.grad` gives. A leaf that comes back after an update without gradient,
    or has joined through `jopt.extend`, makes all leaves forget their pairs: they belong to
    another problem. (Torch takes a missing gradient for 0.) After an iteration that ends
    because d does not descend, t is 0, where torch keeps a step that it did not take.
    Where g·g would leave the range, as in float32 beyond 10¹⁹, products are those of 2ᵏ·f, and the
    first d is −2ᵏ·g. Below about 10⁻³⁰ and beyond 10³⁶ H has fewer digits.

    Source: Liu and Nocedal, 1989; H by Byrd, Nocedal and Schnabel, 1994, theorem 2.2.

    >>> import jax, jax.numpy as jnp, jopt
    >>> f = lambda p: jnp.sum((p["w"] - 3.0) ** 2)
    >>> tx = jopt.lbfgs(line_search="strong_wolfe")
    >>> params = {"w": jnp.zeros(2)}
    >>> grads = jax.grad(f)(params)
    >>> updates, state = tx.update(grads, tx.init(params), params, value_fn=f)
    >>> jopt.apply_updates(params, updates)
    {'w': Array([3., 3.], dtype=float32)}
    """
    iterations = whole_number("lbfgs", "max_iter", max_iter, 1, "iterations", counted=True)
    most = iterations * 5 // 4 if max_eval is None else max_eval
    most = whole_number("lbfgs", "max_eval", most, 1, "evaluations", counted=True)
    pairs = whole_number("lbfgs", "history_size", history_size, 1, "pairs", counted=True)
    if not is_one_of(line_search, None, "strong_wolfe"):
        raise ConfigError(
            "lbfgs",
            "there is no such line search",
            expected="'strong_wolfe' or None",
            found=repr(line_search),
        )
    for label, group in check_groups("lbfgs", groups).items():
        if not getattr(group, "freeze", True):
            raise ConfigError(
                "lbfgs",
                f"group {label!r} is not frozen, and all parameters share one direction",
                fix="Freeze it with freeze=True, or give it another optimizer: see jopt.recipes.",
            )
    return treewise(
        SPEC,
        rule,
        groups=groups,
        options={
            "max_iter": iterations,
            "max_eval": most,
            "history_size": pairs,
            "line_search": line_search,
        },
        learning_rate=learning_rate,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
        min_curvature=min_curvature,
    )
