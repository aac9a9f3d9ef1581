"""Laws of numbers: dtypes that stay, nothing that overflows, half precision that follows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import doubles
from jopt.testing.compare import (
    as_numbers,
    close,
    dtype_of,
    finite,
    no_nan,
    pairs,
    same_aspect,
    shown,
    wide,
)
from jopt.testing.law import EVERY, HALF, BrokenError, law
from jopt.testing.subject import Subject

HUGE = ((3e20, 1, 1, 1), (1, 1e30, 1e30, 1), (1e37, 1e37, 1, 1))
"""The sizes of the gradients of four steps: finite in float32, their squares are not."""

TINY = (1e-30, 1e-38)

LONG = 512
"""Steps, which 0.999 of Adam's needs to show what rounding makes of it."""


@law(dtypes=EVERY)
def dtypes(subject: Subject, dtype: str) -> None:
    """Parameters keep their dtype and stay finite."""
    params = subject.params(dtype)
    after, _ = subject.run(params, subject.tx.init(params), range(3))
    for path, p, q in pairs("the parameters after three steps", params, after):
        if p.dtype != q.dtype or p.shape != q.shape:
            problem = "a parameter changes its dtype"
            raise BrokenError(problem, path=path, expected=p.dtype, found=q.dtype)
    finite("a parameter after three steps", after)


@law(dtypes=EVERY)
def zeros(subject: Subject, dtype: str) -> None:
    """Gradients of zero make no NaN, at zero parameters either."""
    some = subject.params(dtype)
    for params in (some, jax.tree.map(jnp.zeros_like, some)):
        state, none = subject.tx.init(params), jax.tree.map(jnp.zeros_like, params)
        for step in range(3):
            params, state = subject.compiled(params, state, none)
            no_nan(f"a parameter after {step + 1} gradients of zero", params)
            no_nan(f"the state after {step + 1} gradients of zero", state)


@law()
def still(subject: Subject, dtype: str) -> None:
    """Gradients of zero move nothing: parameters of zero, and others where none decay."""
    params = after = subject.params(dtype, scale=0.0 if subject.decays else 1.0)
    state, none = subject.tx.init(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(3):
        after, state = subject.compiled(after, state, none)
    for path, p, q in pairs("the parameters", params, after):
        if not np.array_equal(p, q):
            problem = "gradients of zero move a parameter"
            raise BrokenError(problem, path=path, expected=shown(p), found=shown(q))


@law(dtypes=HALF)
def numbers(subject: Subject, dtype: str) -> None:
    """Numbers in the state are those of float32 parameters, whatever the dtype of these."""
    rank = [shape for shape in subject.shape_list() if shape]
    if not rank:
        return  # a number cannot be told from what is kept for a scalar parameter
    shapes = {str(i): shape for i, shape in enumerate(rank)}
    wide, narrow = (subject.init_of(shapes, d) for d in ("float32", dtype))
    for path, x, y in pairs("the state", narrow, wide):
        if np.shape(y) or not jnp.issubdtype(dtype_of(y), jnp.inexact):
            continue
        if x.dtype != y.dtype or as_numbers(x) != as_numbers(y):
            problem = f"a number is rounded to {x.dtype} with the parameters"
            raise BrokenError(problem, path=path, expected=shown(y), found=shown(x))


@law(dtypes=HALF)
def half(subject: Subject, dtype: str) -> None:
    """Hundreds of steps at one gradient in half precision are those of float32 within a tenth."""
    params, grads = subject.params(dtype), subject.grads(dtype, 0)

    @jax.jit
    def last(params: Any, grads: Any) -> Any:
        def one(carry: Any, _: Any) -> Any:
            return subject.update(params, carry[1], grads), None

        first = subject.update(params, subject.tx.init(params), grads)
        return jax.lax.scan(one, first, length=LONG - 1)[0][0]

    found = last(params, grads)
    widened = [jax.tree.map(lambda x: x.astype("float32"), tree) for tree in (params, grads)]
    for path, u, v in pairs("the updates", found, last(*widened)):
        away, size = np.max(np.abs(wide(u) - wide(v))), np.max(np.abs(wide(v)))
        if not away <= 0.1 * size:
            problem = f"step {LONG} at one gradient is {away / max(size, 1e-30):.0%} of it away"
            raise BrokenError(problem, path=path, expected=shown(v), found=shown(u))


@law()
def narrow(subject: Subject, dtype: str) -> None:
    """A bfloat16 gradient of a float32 parameter counts as the float32 number that it is."""
    params, grads = subject.params(dtype), subject.grads("bfloat16", 0)
    widened = jax.tree.map(lambda g: g.astype(dtype), grads)
    got = subject.compiled(params, subject.tx.init(params), grads)
    want = subject.compiled(params, subject.tx.init(params), widened)
    close("the step of a narrower gradient", got, want, rtol=5e-7)


@law(dtypes=("float32", *HALF))
def x64(subject: Subject, dtype: str) -> None:
    """With float64 enabled, a step still changes no dtype of parameters and state."""
    with doubles():
        params = subject.params(dtype)
        state = subject.tx.init(params)
        after = jax.eval_shape(subject.step, params, state, subject.grads(dtype, 0))
        same_aspect("what a step gives with float64 enabled", after, (params, state))


@law()
def huge(subject: Subject, dtype: str) -> None:
    """Gradients whose squares are infinite leave parameters finite."""
    for sizes in HUGE:
        params = subject.params(dtype)
        state = subject.tx.init(params)
        for seed, size in enumerate(sizes):
            params, state = subject.run(params, state, [seed], scale=size)
            finite(f"a parameter after gradients of sizes {sizes[: seed + 1]}", params)


@law(dtypes=("float32", "bfloat16"))
def tiny(subject: Subject, dtype: str) -> None:
    """Gradients whose squares are zero leave parameters finite."""
    for size in TINY:
        params = subject.params(dtype)
        after, _ = subject.run(params, subject.tx.init(params), range(3), scale=size)
        finite(f"a parameter after gradients of size {size}", after)
