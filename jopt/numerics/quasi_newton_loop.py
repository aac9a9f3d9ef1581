"""The loop of L-BFGS: iterations of a quasi-Newton model until one of its tests says stop."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.line_search import strong_wolfe
from jopt.numerics.loops import while_loop
from jopt.numerics.quasi_newton import QuasiNewton, turned
from jopt.numerics.scales import Scale
from jopt.numerics.vectors import Vector, vector_dot, vector_max, vector_step, vector_within


class Iterate(NamedTuple):
    """Where the inner loop is."""

    x: Vector
    g: Vector
    loss: Array
    prev_loss: Array
    model: QuasiNewton
    first: Array
    n: Array
    evaluations: Array
    go: Array


def iterations(
    g: Vector, p: Vector, h: Any, model: QuasiNewton, scale: Scale, first: Array, go: Array
) -> Iterate:
    """Torch's `step`: up to `max_iter` iterations, until one of its tests says stop.

    **Arguments:** `g`, the gradient at the point `p`; `h`, the numbers and choices of `jopt.lbfgs`
    by name, `value_fn` and the `value` at `p` or `None` among them; `model`, `scale`, `first` and
    `go` as for `turned`.
    """
    dtype = model.t.dtype
    loss = jnp.asarray(h.value_fn(p) if h.value is None else h.value).astype(dtype)
    scale = scale.fitting(loss)

    def value_and_grad(x: Vector) -> tuple[Array, Vector]:
        f, gradient = jax.value_and_grad(lambda x: h.value_fn(x).astype(dtype))(x)
        return f, gradient

    def search(i: Iterate, d: Vector, trial: Array, go: Array) -> Any:
        def along(t: Array) -> tuple[Array, Vector, Array]:
            f, g = value_and_grad(vector_step(i.x, t, d))
            return f * scale.by, g, vector_dot(scale.of(g), d)

        slope, left = vector_dot(scale.of(i.g), d), h.max_eval - i.evaluations
        return strong_wolfe(
            along,
            trial,
            i.loss * scale.by,
            i.g,
            slope,
            d_max=vector_max(d),
            max_steps=left,
            tolerance=h.tolerance_change,
            go=go,
        )

    def body(i: Iterate) -> Iterate:
        new = turned(i.model, i.g, h.min_curvature, scale=scale, first=i.first, go=i.go)
        n, down = i.n + 1, descends(new, i.g, i.first, h.tolerance_change, scale)
        trial = jnp.where(i.first, scale.first_length(i.g), 1) * h.learning_rate
        if h.line_search is None:
            t = jnp.where(down, trial, 0)
            x = vector_step(i.x, t, new.d)
            looks = down & (n < h.max_iter)
            loss, g = jax.lax.cond(looks, value_and_grad, lambda _: (i.loss, i.g), x)
            evaluations = i.evaluations + looks.astype(jnp.int32)
        else:
            t, f, g, spent = search(i, new.d, trial, down)
            x, loss = vector_step(i.x, t, new.d), f / scale.by
            evaluations = i.evaluations + spent
        stop = ~down | (n >= h.max_iter) | (evaluations >= h.max_eval)
        stop |= vector_within(g, h.tolerance_grad)
        stop |= jnp.abs(t) * vector_max(new.d) <= h.tolerance_change
        stop |= jnp.abs(loss - i.loss) < h.tolerance_change
        later = jnp.zeros_like(i.first)
        return Iterate(x, g, loss, i.loss, new._replace(t=t), later, n, evaluations, ~stop)

    start = Iterate(p, g, loss, loss, model, first, jnp.int32(0), jnp.int32(1), go)
    return while_loop(lambda i: i.go, body, start)


def descends(model: QuasiNewton, g: Vector, first: Array, tolerance: Array, scale: Scale) -> Array:
    """Whether the function falls along the model's `d` by more than the tolerance."""
    # In a kernel with this product, d could not be written where the last one was.
    d = jax.lax.optimization_barrier(model.d)
    bound = -tolerance * jnp.where(first, scale.by, 1)
    return jnp.logical_not(vector_dot(g, d) > bound)
