"""Laws of programs: shapes that stay, one compilation, no hidden memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.testing.compare import close, same_aspect, same_bits
from jopt.testing.law import EVERY, BrokenError, law
from jopt.testing.subject import Subject


@law(dtypes=EVERY)
def structure(subject: Subject, dtype: str) -> None:
    """Updates change no structure, shape or dtype of the state."""
    params = subject.params(dtype)
    first = state = subject.tx.init(params)
    for seed in range(3):
        params, state = subject.run(params, state, [seed])
        same_aspect(f"the state after {seed + 1} steps", state, first)


@law()
def shapes(subject: Subject, dtype: str) -> None:
    """Init of shapes alone is init, in shape."""
    params = subject.params(dtype)
    found = jax.eval_shape(subject.tx.init, params)
    same_aspect("init of shapes", found, subject.tx.init(params))


@law()
def init_jit(subject: Subject, dtype: str) -> None:
    """Init under jit is init, to the bit."""
    params = subject.params(dtype)
    same_bits("init under jit", jax.jit(subject.tx.init)(params), subject.tx.init(params))


@law()
def jit(subject: Subject, dtype: str) -> None:
    """A compiled step is the step that is not."""
    params = subject.params(dtype)
    plain, state = params, subject.tx.init(params)
    for seed in range(2):
        plain, state = subject.step(plain, state, subject.grads(dtype, seed))
    compiled = subject.run(params, subject.tx.init(params), range(2))
    close("what is compiled", compiled, (plain, state), rtol=2e-6)


@law()
def scan(subject: Subject, dtype: str) -> None:
    """Steps in a scan are the steps of a loop."""
    params = subject.params(dtype)
    looped = subject.run(params, subject.tx.init(params), range(4))
    grads = stacked([subject.grads(dtype, seed) for seed in range(4)])

    @jax.jit
    def scanned(params: Any, state: Any, grads: Any) -> Any:
        return jax.lax.scan(lambda c, g: (subject.step(*c, g), None), (params, state), grads)[0]

    got = scanned(params, subject.tx.init(params), grads)
    close("what is scanned", got, looped, rtol=2e-6)


@law(dtypes=EVERY)
def retrace(subject: Subject, dtype: str) -> None:
    """A step is compiled once, however many are taken."""
    traces = []

    @jax.jit
    def compiled(params: Any, state: Any, grads: Any) -> Any:
        traces.append(1)
        return subject.step(params, state, grads)

    params = subject.params(dtype)
    state = subject.tx.init(params)
    for seed in range(3):
        params, state = compiled(params, state, subject.grads(dtype, seed))
    if len(traces) > 1:
        raise BrokenError("three steps were compiled more than once", expected=1, found=len(traces))


@law()
def pure(subject: Subject, dtype: str) -> None:
    """An update changes nothing that it was given, and what it gives depends on that alone."""
    # NumPy arrays, which could be written to.
    params = jax.tree.map(np.array, subject.params(dtype))
    grads = jax.tree.map(np.array, subject.grads(dtype, 0))
    state = jax.tree.map(writable, subject.tx.init(params))
    before = jax.tree.map(writable, (params, grads, state))
    fed = jax.tree.map(jnp.asarray, grads)
    once = subject.step(params, state, fed)
    same_bits("what update was given", (params, grads, state), before)
    same_bits("a second call", subject.step(params, state, fed), once)


def writable(x: Any) -> Any:
    """A leaf of a state as a NumPy array, but for random keys, which no array holds."""
    typed = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if typed else np.array(x)


def stacked(trees: list[Any]) -> Any:
    """The trees as one, with a first axis for the tree."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
