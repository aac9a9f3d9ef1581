"""`minimize` with a transform: each turn of the loop is one of its updates."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core import State, Transform, apply_updates
from jopt.core.entrance import strong
from jopt.core.hyperparams import nodes
from jopt.core.tree import Tree
from jopt.minimize.problem import Objective, traced, untraced
from jopt.minimize.result import (
    GRADIENT,
    NOT_FINITE,
    PARAMS,
    RUNNING,
    STALLED,
    VALUE,
    Minimum,
)
from jopt.numerics import either, number_dtype, vector_max
from jopt.numerics.loops import while_loop


class _Run(NamedTuple):
    params: Tree
    value: Array
    aux: Any
    grads: Tree
    state: State
    steps: Array
    idle: Array
    status: Array
    trace: Array | None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def by_transform(
    objective: Objective,
    tx: Transform,
    trace: int,
    x0: Tree,
    args: tuple[Any, ...],
    limits: dict[str, Array],
    key: Array | None,
) -> Minimum:
    """Minimise it from `x0`; see `minimize`."""

    def look(x: Tree) -> tuple[Array, Any, Tree]:
        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(x, args)
        # jax differentiates complex numbers to the conjugate of the direction of ascent.
        seen: tuple[Array, Any, Tree] = strong((value, aux, jax.tree.map(jnp.conj, grads)))
        return seen

    def body(run: _Run) -> _Run:
        extra = {} if key is None else {"key": jax.random.fold_in(key, run.steps)}
        updates, state = tx.update(
            run.grads,
            run.state,
            run.params,
            value=run.value,
            grad=run.grads,
            value_fn=lambda x: objective(x, args)[0],
            **extra,
        )
        params = apply_updates(run.params, updates)
        value, aux, grads = look(params)
        moved = _size(jax.tree.map(operator.sub, params, run.params))
        # A step of nothing means the end only where the transform looked for a step itself:
        # others rest between micro-batches, or while a schedule is at 0.
        resting = (moved == 0) & (not _counters(state))
        idle = jnp.where((moved == 0) & ~resting, run.idle + 1, 0)
        finite = _finite(value, grads)
        status = jnp.where(
            finite,
            _verdict(limits, (run.value, value), grads, params, (moved, idle, resting)),
            NOT_FINITE,
        )
        seen = traced(run.trace, finite, run.steps + 1, value)
        new = _Run(params, value, aux, grads, state, run.steps + 1, idle, status, seen)
        before = run._replace(steps=new.steps, status=status)
        return _Run(*(either(finite, a, b) for a, b in zip(new, before, strict=True)))

    value, aux, grads = look(x0)
    state = tx.init(x0)
    flat = _size(grads) <= limits["tolerance_grad"]
    status = jnp.where(_finite(value, grads), jnp.where(flat, GRADIENT, RUNNING), NOT_FINITE)
    zero = jnp.int32(0)
    values = traced(untraced(trace, value.dtype), jnp.asarray(True), zero, value)
    start = _Run(x0, value, aux, grads, state, zero, zero, status.astype(jnp.int32), values)
    end = while_loop(
        lambda run: (run.status == RUNNING) & (run.steps < limits["max_steps"]), body, start
    )
    evaluations = end.steps + 1 + _searched(end.state) - _searched(state)
    return Minimum(
        end.params,
        end.value,
        end.aux,
        _size(end.grads),
        end.steps,
        evaluations - end.steps * len(_counters(end.state)),
        end.status,
        end.state,
        end.trace,
    )


def _verdict(limits: dict[str, Array], values: Any, grads: Tree, params: Tree, by: Any) -> Array:
    (old, value), (moved, idle, resting) = (v.astype(number_dtype()) for v in values), by
    f_limit, x_limit = limits["tolerance_value"], limits["tolerance_params"]
    f_scale = jnp.maximum(1, jnp.maximum(jnp.abs(old), jnp.abs(value)))
    rules = (
        (_size(grads) <= limits["tolerance_grad"], GRADIENT),
        (~resting & (f_limit > 0) & (jnp.abs(value - old) <= f_limit * f_scale), VALUE),
        (~resting & (x_limit > 0) & (moved <= x_limit * jnp.maximum(1, _size(params))), PARAMS),
        (idle >= 2, STALLED),
    )
    status: Array = jnp.select([r for r, _ in rules], [jnp.int32(s) for _, s in rules], RUNNING)
    return status


def _counters(state: State) -> list[Array]:
    # Transforms that evaluate on their own count it, the first given gradient included.
    found = [node.get("func_evals", {}) for _, node in nodes(state) if isinstance(node, Mapping)]
    return [count for counts in found for count in jax.tree.leaves(counts)]


def _searched(state: State) -> Array:
    return sum(_counters(state), start=jnp.int32(0))


def _finite(value: Array, grads: Tree) -> Array:
    return jnp.isfinite(value) & jnp.isfinite(_size(grads))


def _size(tree: Tree) -> Array:
    leaves = jax.tree.leaves(tree)
    return vector_max(leaves).astype(number_dtype()) if leaves else jnp.zeros((), number_dtype())
