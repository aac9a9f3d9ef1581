"""Doing something or not, without a copy of what it would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from jopt.core.tree import Tree


def once_if(condition: Array, f: Callable[[Tree], Tree], operand: Tree) -> Tree:
    """`f(operand)` where `condition` holds, else `operand`.

    `f` must keep structure, shapes and dtypes. A loop of one turn or none, because XLA changes
    a loop's buffers where they are; `lax.cond` copies all that passes through it. Loops have
    no reverse derivative, so derivatives are those of `lax.cond`.
    """
    pure, closed_over = jax.closure_convert(f, operand)

    @jax.custom_jvp
    def run(condition: Array, operand: Tree, *consts: Any) -> Tree:
        def turn(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
            return jax.numpy.zeros_like(carry[0]), pure(carry[1], *consts)

        return jax.lax.while_loop(lambda carry: carry[0], turn, (condition, operand))[1]

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        def branching(condition: Array, operand: Tree, *consts: Any) -> Tree:
            return jax.lax.cond(condition, pure, lambda x, *_: x, operand, *consts)

        _, tangent = jax.jvp(branching, primals, tangents)
        return run(*primals), tangent

    return run(condition, operand, *closed_over)
