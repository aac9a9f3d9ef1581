"""What is minimised: the caller's function, checked, and his parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import called
from jopt.core.checks import as_array
from jopt.core.entrance import real_scalar, strong, wrong
from jopt.core.tree import Tree
from jopt.numerics import is_complex, real_dtype, widest
from jopt.numerics.explicit import zeros_of


@dataclass(frozen=True)
class Objective:
    """`fun` with its result checked; always gives a pair."""

    fun: Callable[..., Any]
    has_aux: bool

    def __call__(self, x: Tree, args: tuple[Any, ...]) -> tuple[Array, Any]:
        """Value and aux, which is `None` where there is none."""
        out = called("minimize", "fun", self.fun, x, *args)
        if self.has_aux and not (isinstance(out, tuple | list) and len(out) == 2):
            expected = "(scalar, aux), as has_aux=True says"
            raise wrong("minimize", "fun gives no pair", expected, out)
        value, aux = out if self.has_aux else (out, None)
        expected = "a floating scalar, or (scalar, aux) with has_aux=True"
        value = real_scalar(
            "minimize", "fun", as_array("minimize", "the value of fun", value), expected
        )
        seen: tuple[Array, Any] = strong((value, aux))
        return seen


@dataclass(frozen=True)
class Packed:
    """How a tree lies in one real vector; of a complex leaf the real parts precede the others."""

    treedef: Any
    leaves: tuple[tuple[tuple[int, ...], jnp.dtype], ...]

    @classmethod
    def like(cls, tree: Tree) -> Packed:
        """That of this tree."""
        leaves, treedef = jax.tree.flatten(tree)
        return cls(treedef, tuple((x.shape, x.dtype) for x in leaves))

    @property
    def dtype(self) -> jnp.dtype:
        """Of the vector: the widest real one, and at least float32."""
        return widest(jnp.float32, *(real_dtype(dtype) for _, dtype in self.leaves))

    @property
    def size(self) -> int:
        """Of the vector."""
        return sum(
            math.prod(shape) * (2 if is_complex(dtype) else 1) for shape, dtype in self.leaves
        )

    def join(self, tree: Tree) -> Array:
        """The vector."""
        parts = []
        for x in self.treedef.flatten_up_to(tree):
            both = (jnp.real(x), jnp.imag(x)) if is_complex(x.dtype) else (x,)
            parts += [part.reshape(-1).astype(self.dtype) for part in both]
        return jnp.concatenate(parts)

    def part(self, vector: Array) -> Tree:
        """The tree."""
        leaves, at = [], 0
        for shape, dtype in self.leaves:
            size = math.prod(shape)
            whole = 2 * size if is_complex(dtype) else size
            x = jax.lax.slice(vector, (at,), (at + whole,)).astype(real_dtype(dtype))
            if is_complex(dtype):
                x = jax.lax.complex(x[:size], x[size:])
            leaves.append(x.reshape(shape))
            at += whole
        return self.treedef.unflatten(leaves)


def along(objective: Objective, packed: Packed, args: tuple[Any, ...]) -> Callable[[Array], Any]:
    """The objective as a function of the vector, with the value in the vector's dtype."""

    def value(x: Array) -> tuple[Array, Any]:
        f, aux = objective(packed.part(x), args)
        return f.astype(packed.dtype), aux

    return value


def zeros_of_aux(objective: Objective, packed: Packed, args: tuple[Any, ...], x: Array) -> Any:
    """What stands for `fun`'s aux before it is evaluated."""
    if not objective.has_aux:  # no reason to trace it once more
        return None
    return jax.tree.map(zeros_of, jax.eval_shape(along(objective, packed, args), x)[1])


def untraced(trace: int, dtype: Any) -> Array | None:
    """Room for the values at the start and after each of `trace` steps; `None` for 0."""
    return jnp.full(trace + 1, jnp.nan, dtype) if trace else None


def traced(trace: Array | None, given: Array, step: Array, value: Array) -> Array | None:
    """With the value after this step, if `given` and there is room."""
    if trace is None:
        return None
    at = jnp.where(given, step, trace.size)
    return trace.at[at].set(value.astype(trace.dtype), mode="drop")
