"""Gradients from the worst place nearby, in front of any optimizer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Hyper, Spec, Transform, Value, chain, treewise
from jopt.numerics import global_norm

SAM = Spec(
    name="sam",
    hypers=(Hyper("rho", "[0, inf)"),),
    extra=("value_fn",),
    steps=False,
    needs_params=True,
)
ASAM = Spec(
    name="asam",
    hypers=(Hyper("rho", "[0, inf)"), Hyper("eta", "[0, inf)")),
    extra=("value_fn",),
    steps=False,
    needs_params=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sam`."""
    return _beyond(g, p, g, h), {}


def adaptive(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `asam`."""
    sizes = [jnp.abs(x) + h.eta.astype(x.dtype) for x in p]
    steep = [t * x for t, x in zip(sizes, g, strict=True)]
    return _beyond(steep, p, [t * x for t, x in zip(sizes, steep, strict=True)], h), {}


def _beyond(steep: Any, p: Any, along: Any, h: Any) -> Any:
    """The gradients at p + ρ·along / ‖steep‖."""
    size = global_norm(steep)
    far = jnp.where(size > 0, h.rho.astype(size.dtype) / jnp.where(size > 0, size, 1), 0)
    there = [x + far.astype(x.dtype) * d for x, d in zip(p, along, strict=True)]
    return jax.grad(h.value_fn)(there)


@configured("jopt.")
def sam(tx: Any, *, rho: Value = 0.05) -> Transform:
    """Take the gradient where the loss nearby is highest, for flat minima.

    With g the gradient at the parameters p, L the loss, all leaves together:

        g ← ∇L(p + ρ·g / ‖g‖)

    and that is what `tx` takes for the gradient, at p.

    **Arguments:** `tx`: any optimizer; `rho`: ρ ≥ 0, 0.05 in the paper, a number or a schedule.

    **In `update` and `jopt.step`:** `value_fn=`, the loss as a function of the parameters, on this
    batch; its gradient is taken once more in every update. Leaves that have no gradient, or are
    frozen, stay where they are in it.

    **State:** that of `tx`, and under `sam` ρ and the step count: there is no second phase, and no
    copy of the parameters.

    **Raises:** `ConfigError` without `value_fn`.

    Source: Foret et al., 2021, "Sharpness-aware minimization for efficiently improving
    generalization", algorithm 1. optax's divides 0 by 0 where all gradients are 0.

    >>> import jax.numpy as jnp, jopt
    >>> loss = lambda w: 0.5 * w**2
    >>> tx = jopt.sam(jopt.sgd(1.0), rho=0.5)
    >>> w = jnp.float32(1.0)
    >>> tx.update(w, tx.init(w), w, value_fn=loss)[0]  # the gradient at 1.5
    Array(-1.5, dtype=float32)
    """
    return chain(treewise(SAM, rule, rho=rho), tx)


@configured("jopt.")
def asam(tx: Any, *, rho: Value = 0.5, eta: Value = 0.01) -> Transform:
    """As `jopt.sam`, with a neighbourhood that grows with each entry of the parameters.

        T = |p| + η
        g ← ∇L(p + ρ·T²·g / ‖T·g‖)

    **Arguments:** `tx`: any optimizer; `rho`: ρ ≥ 0 and `eta`: η ≥ 0, 0.5 and 0.01 in the paper,
    numbers or schedules.

    **In `update` and `jopt.step`:** `value_fn=`, as for `jopt.sam`.

    **State:** that of `tx`, and under `asam` the numbers and the step count.

    **Raises:** `ConfigError` without `value_fn`.

    Source: Kwon et al., 2021, "ASAM: adaptive sharpness-aware minimization", algorithm 1. The
    authors' code has η for all leaves named weights only.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.asam(jopt.sgd(1.0), rho=0.5, eta=0.0)
    >>> w = jnp.float32(2.0)
    >>> tx.update(w, tx.init(w), w, value_fn=lambda w: 0.5 * w**2)[0]  # the gradient at 3
    Array(-3., dtype=float32)
    """
    return chain(treewise(ASAM, adaptive, rho=rho, eta=eta), tx)
