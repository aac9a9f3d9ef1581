"""What the laws hold results to: the same bits, nearly the same numbers, no NaN."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.core.tree import Tree
from jopt.testing.law import BrokenError


def aspect(x: Any) -> str:
    """What a compiled program depends on of a leaf: shape, dtype and whether that is weak."""
    shape, dtype = jnp.shape(x), dtype_of(x)
    weak = " (weak)" if getattr(x, "weak_type", False) else ""
    return f"{dtype}{list(shape)}{weak}"


def dtype_of(x: Any) -> Any:
    """The dtype of an array, of a shape, of a number."""
    return x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype


def same_structure(what: str, a: Tree, b: Tree) -> None:
    """The same containers and keys."""
    found: Any = jax.tree.structure(a)
    expected: Any = jax.tree.structure(b)
    if found != expected:
        raise BrokenError(f"{what} has another structure", expected=expected, found=found)


def pairs(what: str, a: Tree, b: Tree) -> list[tuple[str, Any, Any]]:
    """The leaves of two trees side by side, with their paths; the trees have one structure."""
    same_structure(what, a, b)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(a)]
    return list(zip(paths, jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def same_aspect(what: str, a: Tree, b: Tree) -> None:
    """Equal structure, shapes and dtypes: what is compiled for one serves the other."""
    for path, x, y in pairs(what, a, b):
        if aspect(x) != aspect(y):
            raise BrokenError(
                f"{what} has another shape or dtype", path=path, expected=aspect(y), found=aspect(x)
            )


def same_bits(what: str, a: Tree, b: Tree) -> None:
    """Equal structure, shapes, dtypes and bytes."""
    for path, x, y in pairs(what, a, b):
        x, y = as_numbers(x), as_numbers(y)
        if (x.dtype, x.shape) != (y.dtype, y.shape) or x.tobytes() != y.tobytes():
            raise BrokenError(f"{what} is another", path=path, expected=shown(y), found=shown(x))


def close(what: str, a: Tree, b: Tree, rtol: float) -> None:
    """Equal structure; every leaf within `rtol` of its largest value."""
    for path, x, y in pairs(what, a, b):
        x, y = as_numbers(x), as_numbers(y)
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            raise BrokenError(
                f"{what} has another shape or dtype", path=path, expected=aspect(y), found=aspect(x)
            )
        if not x.size:
            continue
        bound = rtol * max(float(np.max(np.abs(y))), 1e-30)
        away = float(np.max(np.abs(x - y)))
        if not away <= bound:
            raise BrokenError(
                f"{what} is {away:.2g} away, where {bound:.2g} would be rounding",
                path=path,
                expected=shown(y),
                found=shown(x),
            )


def finite(what: str, tree: Tree) -> None:
    """No NaN and no infinity in any leaf."""
    for path, x in jax.tree.leaves_with_path(tree):
        _without(what, path, x, ~np.isfinite(wide(x)), "finite numbers")


def no_nan(what: str, tree: Tree) -> None:
    """No NaN in any leaf."""
    for path, x in jax.tree.leaves_with_path(tree):
        _without(what, path, x, np.isnan(wide(x)), "no NaN")


def _without(what: str, path: Any, x: Any, bad: Any, expected: str) -> None:
    if bad.any():
        where = jax.tree_util.keystr(path)
        raise BrokenError(f"{what} is no number", path=where, expected=expected, found=shown(x))


def as_numbers(x: Any) -> Any:
    """A leaf as a NumPy array; of a random key its data."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def wide(x: Any) -> Any:
    """A leaf in double precision."""
    return as_numbers(x).astype(np.complex128)


def shown(x: Any) -> str:
    """The first of the numbers of a leaf."""
    flat = np.ravel(as_numbers(x))
    more = ", ..." if flat.size > 4 else ""
    return f"{flat.dtype}[{', '.join(map(str, flat[:4]))}{more}]"
