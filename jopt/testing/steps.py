"""Laws of direction: a step goes down, it is made from the gradient at hand, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.core import apply_updates
from jopt.core.tree import Tree
from jopt.testing.compare import as_numbers, pairs, same_bits, wide
from jopt.testing.law import BrokenError, law
from jopt.testing.subject import Subject, dense, drawn

SQUARE = (32, 32)
MANY = 100


@law()
def descends(subject: Subject, dtype: str) -> None:
    """The first step goes against the gradient."""
    params, grads = subject.params(dtype), subject.grads(dtype, 0)
    updates = dense(jax.jit(subject.update)(params, subject.tx.init(params), grads)[0])
    along = inner(updates, grads)
    if not any(np.any(as_numbers(u)) for u in jax.tree.leaves(updates)):
        raise BrokenError("the first step is zero, whatever the gradient")
    if not along < 0:
        problem = "the first step goes along the gradient: the loss would rise"
        raise BrokenError(problem, expected="an inner product below 0", found=f"{along:.3g}")


@law()
def answers(subject: Subject, dtype: str) -> None:
    """A step depends on the gradient that it is given, not on earlier ones alone."""
    update = jax.jit(subject.update)
    params = subject.params(dtype)
    state = subject.tx.init(params)
    for seed in range(2):
        g = subject.grads(dtype, seed)
        turned = jax.tree.map(lambda x: -2 * x, g)
        (a, state), (b, _) = (update(params, state, x) for x in (g, turned))
        if all(np.array_equal(as_numbers(x), as_numbers(y)) for _, x, y in pairs("it", a, b)):
            problem = f"step {seed + 1} is the same for a gradient and for one turned round"
            raise BrokenError(problem)


@law()
def quadratic(subject: Subject, dtype: str) -> None:
    """A hundred steps on a bowl end lower than they began."""
    params, target = subject.params(dtype), subject.params(dtype, seed=7)

    def loss(at: Tree) -> Any:
        apart = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), at, target)
        return 0.25 * sum(jax.tree.leaves(apart))

    @jax.jit
    def after(params: Any) -> Any:
        def one(carry: Any, _: Any) -> Any:
            params, state = carry
            updates, state = subject.update(params, state, jax.grad(loss)(params), loss)
            return (apply_updates(params, updates), state), None

        carry = (params, subject.tx.init(params))
        return jax.lax.scan(one, carry, length=MANY)[0][0]

    first, last = float(loss(params)), float(loss(after(params)))
    if not last < first:
        problem = f"{MANY} steps on a bowl end higher than they began"
        raise BrokenError(problem, expected=f"less than {first:.4g}", found=f"{last:.4g}")


@law()
def differentiable(subject: Subject, dtype: str) -> None:
    """Derivatives through two steps are what finite differences come to."""
    with subject.precision("float64"):
        params = subject.params("float64")
        first, second, way = (subject.grads("float64", seed) for seed in range(3))

        @jax.jit
        def end(t: Any, params: Any, way: Any, *grads: Any) -> Any:
            state = subject.tx.init(params)
            for each in grads:
                moved = jax.tree.map(lambda g, d: g + t * d, each, way)
                params, state = subject.step(params, state, moved)
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(params))

        h, given = 1e-5, (params, way, first, second)
        expected = float((end(h, *given) - end(-h, *given)) / (2 * h))
        found = float(jax.jacfwd(end)(0.0, *given))
    if not abs(found - expected) <= 1e-4 * abs(expected) + 1e-7:
        raise BrokenError(
            "the derivative of two steps along a change of their gradients is another",
            expected=expected,
            found=found,
        )


@law(of=("elementwise",))
def permutation(subject: Subject, dtype: str) -> None:
    """Entries that change places take their results along, and what is kept of them."""
    order = np.random.default_rng(0).permutation(SQUARE[0] * SQUARE[1])

    def moved(x: Any) -> Any:
        return x.reshape(-1)[order].reshape(SQUARE) if jnp.shape(x) == SQUARE else x

    def after(at: Callable[[Any], Any]) -> Any:
        w, *grads = (at(drawn(SQUARE, dtype, seed)) for seed in range(4))
        params = {"w": w}
        state = subject.tx.init(params)
        for g in grads:
            params, state = subject.compiled(params, state, {"w": g})
        return params, state

    what = "what is moved before three steps, not after them,"
    same_bits(what, after(moved), jax.tree.map(moved, after(lambda x: x)))


def inner(a: Tree, b: Tree) -> float:
    """The sum of products of all entries."""
    return float(sum(np.sum(wide(x) * np.conj(wide(y))).real for _, x, y in pairs("it", a, b)))
