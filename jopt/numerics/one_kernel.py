"""Arithmetic on little, compiled as one kernel."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import optimization_barrier as barrier

CALL = {"xla_cpu_small_call": "true", "inlineable": "false"}
"""What XLA says of such a call once it has made a loop of few bytes into one."""


def one_kernel(f: Callable[..., Any]) -> Any:
    """`f`, of trees of numbers and of arrays of a few hundred, all of which it uses.

    On a CPU XLA makes a kernel of every few operations, for which it needs 10 to 40 ms each, and
    one of all of a call that is marked as `CALL`, in which an operation takes 2 ms. Such a kernel
    is for one thread. So under `jax.vmap`, where little is little no more, there is none. It knows
    no operation of a library: products of matrices, sorting, scattering.

    Make it once for each function: what `jax.jit` has traced of that it then has at hand.
    """
    whole = jax.jit(f)

    def run(*args: Any) -> Any:
        given = [jnp.asarray(x) for x in jax.tree.leaves(args)]
        tree: Any = jax.tree.structure(args)
        shape: list[Any] = []

        def plain(*leaves: Array) -> list[Array]:
            found = whole(*tree.unflatten(leaves))
            shape[:] = [jax.tree.structure(found)]
            return jax.tree.leaves(found)

        @jax.jit
        def kept(*leaves: Array) -> Any:
            return barrier((plain(*leaves), [x for x in leaves if not x.ndim]))

        def kernel(*leaves: Array) -> list[Array]:
            # XLA ends the process where such a call has an argument of no use. It finds some where
            # it knows values, or there are no entries, or which are numbers.
            if not all(x.size for x in leaves):
                return plain(*leaves)
            return marked(kept(*barrier(leaves))[0])

        # Leaves alone: a batch of derivatives fails on a tree in which there is a `None`.
        @jax.custom_batching.custom_vmap
        def call(*leaves: Array) -> list[Array]:
            found: list[Array] = jax.lax.platform_dependent(*leaves, cpu=kernel, default=plain)
            return found

        @call.def_vmap
        def batched(size: int, axes: Any, *leaves: Array) -> tuple[list[Array], list[bool]]:
            some = any(axes)  # not where a batch of tangents is at one point
            which = [0 if batched else None for batched in axes]
            found = jax.vmap(plain, which, axis_size=size)(*leaves) if some else plain(*leaves)
            return found, [some] * len(found)

        @jax.custom_jvp
        def differentiable(*leaves: Array) -> Any:
            return call(*leaves)

        @differentiable.defjvp
        def derivative(primals: Any, tangents: Any) -> Any:
            return jax.jvp(plain, primals, tangents)  # of which some are of no use

        found = differentiable(*given)
        return shape[0].unflatten(found)

    run.__wrapped__ = f  # type: ignore[attr-defined]
    return run


def in_one(few: bool, f: Any) -> Any:
    """That `f` of `one_kernel` as it is, or if they are not `few` the function itself."""
    return f if few else f.__wrapped__


def marked(found: list[Array]) -> list[Array]:
    """The results of a call, which is marked as `CALL` in programs for one device.

    In others XLA may have to put into it what devices say to each other, and then has no such call.
    """
    found[0] = _mark().bind(found[0])
    return found


@functools.cache
def _mark() -> Any:
    from jax.interpreters import mlir as lowering

    mlir: Any = lowering

    def lowered(context: Any, x: Any) -> list[Any]:
        if getattr(context.module_context.axis_context, "num_devices", None) == 1:
            marks = {name: mlir.ir.StringAttr.get(value) for name, value in CALL.items()}
            x.owner.attributes["mhlo.frontend_attributes"] = mlir.ir.DictAttr.get(marks)
        return [x]

    mark: Any = type(jax.lax.add_p)("marked")  # `jax.extend.core` takes 60 ms to import
    mark.def_impl(lambda x: x)
    mark.def_abstract_eval(lambda x: x)
    # Not as a function of its own: it is about what its argument comes from.
    own = "cacheable" in inspect.signature(mlir.register_lowering).parameters
    mlir.register_lowering(mark, lowered, **({"cacheable": False} if own else {}))
    return mark
