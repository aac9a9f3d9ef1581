"""Gradients from the worst place nearby, in front of any optimizer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Hyper, Spec, Transform, Value, chain, treewise
from jopt.numerics import Norm, cast, together
from jopt.wrappers.in_turn import InTurnPart

SAM = Spec(
    name="sam",
    hypers=(Hyper("rho", "[0, inf)"),),
    options={"in_turn": None},
    extra=lambda on: () if on["in_turn"] else ("value_fn",),
    steps=False,
    needs_params=True,
)
ASAM = Spec(
    name="asam",
    hypers=(Hyper("rho", "[0, inf)"), Hyper("eta", "[0, inf)")),
    options={"in_turn": None},
    extra=lambda on: () if on["in_turn"] else ("value_fn",),
    steps=False,
    needs_params=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sam`."""
    return _answer(g, g, p, h), {}


def adaptive(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `asam`."""
    sizes = [jnp.abs(x) + h.eta.astype(x.dtype) for x in p]
    steep = [t * x for t, x in zip(sizes, g, strict=True)]
    return _answer(steep, [t * x for t, x in zip(sizes, steep, strict=True)], p, h), {}


def _answer(steep: Any, along: Any, p: Any, h: Any) -> Any:
    """The way up, ρ·along / ‖steep‖; or the gradients there."""
    ((factor, size),) = together(Norm(steep), bare=True)
    far = jnp.where(size > 0, h.rho.astype(size.dtype) / jnp.where(size > 0, size, 1), 0)
    # The power of two first: where ‖steep‖ is out of range, the quotient alone may be, too.
    up = [cast(far, d.dtype) * (cast(factor, d.dtype) * d) for d in along]
    if h.in_turn:
        return up
    return jax.grad(h.value_fn)([x + d for x, d in zip(p, up, strict=True)])


def _made(tx: Any, spec: Spec, rule: Any, in_turn: bool, **numbers: Any) -> Transform:
    part = treewise(spec, rule, options={"in_turn": in_turn}, **numbers)
    if in_turn:
        return Transform({spec.name: InTurnPart(spec.name, tx, part)})
    return chain(part, tx)


@configured("jopt.")
def sam(tx: Any, *, rho: Value = 0.05, in_turn: bool = False) -> Transform:
    """Take the gradient where the loss nearby is highest, for flat minima.

    With g the gradient at the parameters p, L the loss, all leaves together:

        g ← ∇L(p + ρ·g / ‖g‖)

    and that is what `tx` takes for the gradient, at p.

    **Arguments:** `tx`: any optimizer; `rho`: ρ ≥ 0, 0.05 in the paper, a number or a schedule;
    `in_turn`: see below.

    **In `update` and `jopt.step`:** `value_fn=`, the loss as a function of the parameters, on this
    batch; its gradient is taken once more in every update. Leaves that have no gradient, or are
    frozen, stay where they are in it.

    **In turn.** Without the loss as a function, with `in_turn=True`, two updates make a step: the
    first moves the parameters to p + ρ·g / ‖g‖, and the second takes the gradient there, and makes
    the step of `tx` from p. What stands behind sees those steps, and p; nothing of `tx` changes at
    the first. `jopt.eval_params` gives p at any time. Put `jopt.accumulate` and the like inside or
    outside, and nothing behind them.

    **State:** that of `tx`, and under `sam` ρ and the step count. In turn it is `{"sam":
    {"ascended": ..., "anchor": ..., "inner": {...}}}`: whether the last update was a first one,
    and p, in its own dtype, of all leaves that `tx` does not freeze.

    **Raises:** `ConfigError` without `value_fn`, but for `in_turn`.

    Source: Foret et al., 2021, "Sharpness-aware minimization for efficiently improving
    generalization", algorithm 1. optax's divides 0 by 0 where all gradients are 0; in turn is what
    it does with `opaque_mode=False` and a `sync_period` of 2.

    >>> import jax.numpy as jnp, jopt
    >>> loss = lambda w: 0.5 * w**2
    >>> tx = jopt.sam(jopt.sgd(1.0), rho=0.5)
    >>> w = jnp.float32(1.0)
    >>> tx.update(w, tx.init(w), w, value_fn=loss)[0]  # the gradient at 1.5
    Array(-1.5, dtype=float32)
    """
    return _made(tx, SAM, rule, in_turn, rho=rho)


@configured("jopt.")
def asam(tx: Any, *, rho: Value = 0.5, eta: Value = 0.01, in_turn: bool = False) -> Transform:
    """As `jopt.sam`, with a neighbourhood that grows with each entry of the parameters.

        T = |p| + η
        g ← ∇L(p + ρ·T²·g / ‖T·g‖)

    **Arguments:** `tx`: any optimizer; `rho`: ρ ≥ 0 and `eta`: η ≥ 0, 0.5 and 0.01 in the paper,
    numbers or schedules; `in_turn`: up at one update and down at the next, see `jopt.sam`.

    **In `update` and `jopt.step`:** `value_fn=`, as for `jopt.sam`.

    **State:** that of `tx`, and under `asam` the numbers and the step count; in turn as `jopt.sam`.

    **Raises:** `ConfigError` without `value_fn`, but for `in_turn`.

    Source: Kwon et al., 2021, "ASAM: adaptive sharpness-aware minimization", algorithm 1. The
    authors' code has η for all leaves named weights only.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.asam(jopt.sgd(1.0), rho=0.5, eta=0.0)
    >>> w = jnp.float32(2.0)
    >>> tx.update(w, tx.init(w), w, value_fn=lambda w: 0.5 * w**2)[0]  # the gradient at 3
    Array(-3., dtype=float32)
    """
    return _made(tx, ASAM, adaptive, in_turn, rho=rho, eta=eta)
