"""Doing something or not, without a copy of what it would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from jopt.numerics.loops import while_loop


def once_if(condition: Array, f: Callable[[Any], Any], operand: Any) -> Any:
    """`f(operand)` where `condition` holds, else `operand`.

    `f` must keep structure, shapes and dtypes. A loop of one turn or none, because XLA changes
    a loop's buffers where they are; `lax.cond` copies all that passes through it. Loops have
    no reverse derivative, so derivatives are those of `lax.cond`.
    """
    leaves: list[Array] = jax.tree.leaves(operand)
    treedef: Any = jax.tree.structure(operand)
    # `jax.closure_convert` would leave integers that `f` closes over where they are, and a
    # derivative must not find them there.
    closed = jax.make_jaxpr(lambda *xs: jax.tree.leaves(f(treedef.unflatten(xs))))(*leaves)

    def pure(xs: list[Array], *consts: Any) -> list[Array]:
        return list(jax.core.eval_jaxpr(closed.jaxpr, consts, *xs))

    @jax.custom_jvp
    def run(condition: Array, xs: list[Array], *consts: Any) -> list[Array]:
        def turn(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            return jax.numpy.zeros_like(carry[0]), pure(carry[1], *consts)

        done: list[Array] = while_loop(lambda c: c[0], turn, (condition, xs))[1]
        return done

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        def branching(condition: Array, xs: list[Array], *consts: Any) -> list[Array]:
            chosen: list[Array] = jax.lax.cond(condition, pure, lambda xs, *_: xs, xs, *consts)
            return chosen

        _, tangent = jax.jvp(branching, primals, tangents)
        return run(*primals), tangent

    return treedef.unflatten(run(condition, leaves, *closed.consts))


def in_rows(x: Any) -> Any:
    """`x`, arrays, lying row by row, as arguments do, whatever made them.

    What goes round in a loop lies as its last maker has it, and is copied in and out where
    that is otherwise. On GPUs alone, where decompositions give columns.
    """
    from jax.experimental import layout  # which few programs need

    if not hasattr(layout, "with_layout_constraint"):
        return x  # an older jax cannot say how an array lies: there it is copied
    # Which a jax in between calls otherwise, and has another thing of this name.
    order: Any = getattr(layout, "DeviceLocalLayout", layout.Layout)

    def lying(x: Any) -> Any:
        return jax.tree.map(
            lambda x: (
                layout.with_layout_constraint(x, order(tuple(range(x.ndim)))) if x.ndim else x
            ),
            x,
        )

    return jax.lax.platform_dependent(x, cuda=lying, rocm=lying, default=lambda x: x)
