"""What a part checks before it touches anything: fit parameters, and its own state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import NO_ARRAY, ConfigError, StateError, TreeError, whole_number
from jopt.core.nested import flatten_dict
from jopt.core.paths import Path, shown
from jopt.core.spec import NODE_KEYS, Options, Shape, Slot, Spec
from jopt.core.stack import Stack
from jopt.core.tree import Layout
from jopt.numerics import is_complex

OLD = "For a state of an older jopt: state = jopt.extend(tx, state, params)."
EXTENDS = "extend adds leaves"
EXTEND = "For added or unfrozen leaves: state = jopt.extend(tx, state, params)."


def check_params(
    spec: Spec,
    layout: Layout,
    params: Sequence[Any],
    live: Iterable[int],
    stacks: Mapping[int, Stack],
) -> None:
    """Raise `TreeError` for a parameter that this optimizer cannot move."""
    for i in live if spec.steps or spec.complex == "no" else ():
        dtype = params[i].dtype
        if spec.steps and not jnp.issubdtype(dtype, jnp.inexact):
            raise TreeError(
                spec.name,
                "a parameter cannot be optimized",
                path=layout.names[i],
                expected="a floating or complex dtype",
                found=dtype,
                fix="Keep it out, or freeze it with jopt.group(..., freeze=True).",
            )
        seen = stacks[i].tensor if i in stacks else tuple(params[i].shape)
        ndims = spec.ndim if isinstance(spec.ndim, tuple) else (spec.ndim,)
        if spec.ndim is not None and len(seen) not in ndims:
            wanted = " or ".join(map(str, ndims))
            raise TreeError(
                spec.name,
                f"this optimizer moves parameters with {wanted} axes only",
                path=layout.names[i],
                expected=f"{wanted} axes",
                found=f"shape {seen}",
                fix="Say which axes they are by axes=, or route it to another optimizer: see "
                "jopt.recipes.",
            )
        if is_complex(dtype) and spec.complex == "no":
            raise TreeError(
                spec.name,
                "this optimizer has no rule for complex parameters",
                path=layout.names[i],
                expected="a real dtype",
                found=dtype,
            )


def check_node(who: str, node: dict[str, Any], expected: set[str]) -> None:
    """Raise `StateError` unless a node has the entries of this configuration."""
    if not isinstance(node, dict):
        raise StateError(
            who, "its node of the state is no dict", expected="a dict", found=type(node).__name__
        )
    found = set(node) - {"hyperparams", "times", "given", "schedules", "leaf_count", "owned"}
    if expected - found == {"count"} and found < expected:
        raise StateError(who, "this state has no step count", path="count", expected="one", fix=OLD)
    if expected != found:
        raise StateError(
            who,
            "this state was made by another configuration",
            expected=", ".join(sorted(expected)) or "no slots",
            found=", ".join(sorted(map(str, found))) or "no slots",
        )
    count = node.get("count", 0)
    whole = type(count) is int or jnp.issubdtype(getattr(count, "dtype", float), jnp.integer)
    if not whole or jnp.shape(count) != ():
        raise StateError(
            who,
            "the step count in the state is no whole number",
            path="count",
            expected="an int32 of shape ()",
            found=f"{count.dtype} {count.shape}" if hasattr(count, "dtype") else repr(count)[:100],
        )


def check_slot_names(who: str, node: Any, expected: set[str], what: str = EXTENDS) -> None:
    """Raise `StateError` if a node has other slots than a transform that would take it over."""
    if not isinstance(node, dict):
        raise StateError(
            who, "its node of the state is no dict", expected="a dict", found=type(node).__name__
        )
    found = set(node) - NODE_KEYS
    if found != expected:
        raise StateError(
            who,
            f"{what}, and this state has other slots",
            expected=", ".join(sorted(expected)) or "no slots",
            found=", ".join(sorted(map(str, found))) or "no slots",
            fix="Start anew with tx.init, or take what fits: jopt.load_state_dict(..., "
            "strict=False).",
        )


def check_gone(
    who: str, tree: Any, paths: Sequence[Path], what: str = "extend only adds leaves"
) -> None:
    """Raise `StateError` if a slot holds a leaf that is not among the parameters."""
    known = set(paths)  # a codec may hold several arrays at the path of one leaf
    gone = [p for p in flatten_dict(tree) if not any(p[:n] in known for n in range(len(p) + 1))]
    if gone:
        raise StateError(
            who,
            f"{what}, and this one is not among the parameters",
            path=shown(sorted(gone)[0]),
        )


def check_shape(
    who: str, slot: Slot, path: str, value: Any, shape: Shape, options: Options
) -> Array:
    """`value`; a `StateError` if it is no array, or not of the shape that the slot should have."""
    expected = slot.shape_for(shape, options)
    if tuple(getattr(value, "shape", (None,))) != expected:
        raise StateError(
            who,
            f"{slot.name!r} in the state does not have the shape it should",
            path=path,
            expected=expected,
            found=tuple(value.shape) if hasattr(value, "shape") else type(value).__name__,
        )
    array: Array = value
    return array


def check_slot(who: str, slot: str, tree: Any, paths: Sequence[Path]) -> None:
    """Raise `StateError` if a slot holds leaves that no longer have it, such as frozen ones."""
    held, live = flatten_dict(tree), set(paths)
    surplus = [path for path in held if not any(path[:n] in live for n in range(len(path) + 1))]
    if surplus:
        raise StateError(
            who,
            f"the state has {slot!r} for a leaf that is frozen or gone",
            path=shown(surplus[0]),
            fix="To drop what frozen leaves had: state = jopt.extend(tx, state, params).",
        )


def is_sparse(g: Any) -> bool:
    """Whether a gradient leaf is a sparse array; asks without importing jax's sparse module."""
    # What is an array at once: a tracer takes its time to say what it has not.
    return not isinstance(g, Array) and hasattr(g, "n_sparse") and hasattr(g, "indices")


def on_values(u: Any, f: Callable[[Any], Any]) -> Any:
    """`u` with `f` of its values; those of a row-sparse one are what it holds."""
    return type(u)((f(u.data), u.indices), shape=u.shape) if is_sparse(u) else f(u)


def check_rows(who: str, path: str, g: Any, sparse: bool) -> None:
    """Raise `TreeError` unless `g` is row-sparse where rows are wanted, and dense elsewhere."""
    if not sparse and is_sparse(g):
        raise TreeError(
            who,
            "this transform takes dense gradients only",
            path=path,
            expected="a dense array",
            found=type(g).__name__,
            fix="Use jopt.sparse_adam for this leaf, or gradient.todense().",
        )
    if sparse and not (is_sparse(g) and (g.n_batch, g.n_sparse) == (0, 1)):
        found = (
            f"{type(g).__name__}"
            if not is_sparse(g)
            else (f"{type(g).__name__} with n_batch={g.n_batch}, n_sparse={g.n_sparse}")
        )
        raise TreeError(
            who,
            "this transform takes row-sparse gradients only",
            path=path,
            expected="a BCOO with n_batch=0, n_sparse=1",
            found=found,
            fix="Make one with jopt.row_gradient, or use jopt.adam.",
        )


def check_count(who: str, name: str, value: Any, least: int, of: str = "steps") -> int:
    """A number of things as an int; `ConfigError` for what is none. No count goes past int32."""
    return min(whole_number(who, name, value, least, of), np.iinfo(np.int32).max)


def floating_dtype(who: str, name: str, given: Any) -> str:
    """The name of a floating dtype; `ConfigError` for anything else."""
    try:
        # NumPy makes a dtype of much: of None, of lists, of an array's own.
        dtype = jnp.dtype(given) if isinstance(given, str | type | np.dtype) else None
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ConfigError(
            who,
            f"{name} is no floating dtype",
            expected="'bfloat16', 'float32' or the like",
            found=repr(given)[:100],
        )
    return str(dtype)


def as_values(who: str, path: str, x: Any) -> Any:
    """As `as_array`, and with numbers in it: no shape alone."""
    x = as_array(who, path, x)
    if isinstance(x, jax.ShapeDtypeStruct):
        raise TreeError(
            who,
            "a leaf is a shape, and has no numbers",
            path=path,
            expected="an array",
            found=str(x),
            fix="Under jax.eval_shape arrays have shapes alone, too.",
        )
    return x


def as_array(who: str, path: str, x: Any) -> Any:
    """`x` as something with a shape and a dtype that jax has; Python numbers become arrays."""
    if isinstance(x, Array):  # nearly always, and a tracer takes its time to say what it has
        return x
    held = isinstance(x, np.ndarray | np.generic)
    if not held and hasattr(x, "shape") and hasattr(x, "dtype"):
        return x
    try:
        return jnp.asarray(x)
    except NO_ARRAY:
        raise TreeError(
            who,
            "a leaf is no array",
            path=path,
            expected="an array",
            found=type(x).__name__,
            fix="Take the arrays out first, e.g. equinox.filter(model, equinox.is_array).",
        ) from None


def check_gradient(who: str, path: str, g: Any, p: Any) -> Any:
    """The gradient as an array that fits its parameter, or `None` where there is none."""
    if g is None:
        return None
    g = as_array(who, path, g)
    if g.dtype == jax.dtypes.float0:  # jax's way to say that an integer has no gradient
        return None
    if tuple(g.shape) != tuple(p.shape):
        raise TreeError(
            who,
            "a gradient has another shape than its parameter",
            path=path,
            expected=tuple(p.shape),
            found=tuple(g.shape),
        )
    if _kind(g.dtype) != _kind(p.dtype):
        raise TreeError(
            who,
            "a gradient has another kind of dtype than its parameter",
            path=path,
            expected=f"{_kind(p.dtype)}, as the parameter's {p.dtype}",
            found=g.dtype,
        )
    return g


def check_examples(who: str, path: str, g: Any, p: Any) -> Any:
    """The same for the gradients of single examples, one after the other along a first axis."""
    number = jnp.shape(g)[:1] if g is not None else ()
    return check_gradient(who, path, g, jax.ShapeDtypeStruct((*number, *p.shape), p.dtype))


def _kind(dtype: Any) -> str:
    for kind, name in (
        (jnp.floating, "floating"),
        (jnp.complexfloating, "complex"),
        (jnp.integer, "integer"),
        (jnp.bool_, "boolean"),
    ):
        if jnp.issubdtype(dtype, kind):
            return name
    return str(dtype)
