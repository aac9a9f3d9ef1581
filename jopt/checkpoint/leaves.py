"""The leaves of any tree by name: dict keys, sequence indices and attributes alike.

The names are those of `jopt.core.tree.layout_of`. Beside its arrays a checkpoint keeps what
`jax.tree` sees no leaf in, `None` and empty containers, and plain Python values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jopt.base import CheckpointError
from jopt.core.boxes import opened
from jopt.core.ownership import OwnedStack
from jopt.core.paths import MAX_DEPTH, Path, shown
from jopt.core.tree import Tree

PLAIN = (bool, int, float, complex, str, type(None))
"""The Python values that may stand beside arrays; by exact type, so that `True` is no `int`."""

_LEAVES = (jax.Array, *PLAIN, np.generic)
_LEAF_TYPES: set[type] = {np.ndarray, jax.ShapeDtypeStruct}
"""Types whose every object is a leaf, as they are met: to ask jax takes 50 times as long."""

_NUMPY = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64"
DTYPES = {name: np.dtype(name) for name in (*_NUMPY.split(), "complex64", "complex128")}
DTYPES |= {
    name: np.dtype(kind)
    for name, kind in sorted(vars(ml_dtypes).items())
    if isinstance(kind, type) and issubclass(kind, np.generic) and np.dtype(kind).name == name
}
"""What an array may hold, by the name that a checkpoint writes."""


class Kind(NamedTuple):
    """What a leaf is, apart from its numbers.

    **Attributes:** `dtype`, of an array, else the name of the Python type, `"dict"` for an
    empty container; `shape`, `None` where the leaf is no array.
    """

    dtype: str
    shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.shape is None:
            return {"NoneType": "None", "dict": "an empty dict"}.get(self.dtype, self.dtype)
        return f"{self.dtype} {self.shape}"


kind_like = functools.lru_cache(2**12)(Kind)
"""`Kind(dtype, shape)`, one object for all leaves of a kind: large trees have few."""


def children(
    who: str, node: Tree
) -> tuple[list[str], list[Tree], Callable[[Sequence[Tree]], Tree]]:
    """The keys and children of a container, and what rebuilds it from other children.

    A leaf has itself as its only child, without a key.
    """
    if type(node) is dict:
        keys = list(node)
        return _names(who, keys), list(node.values()), lambda new: dict(zip(keys, new, strict=True))
    if is_leaf(node):
        return [], [node], lambda new: new[0]
    treedef: Any
    try:
        keyed, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    except (TypeError, ValueError) as error:  # e.g. the keys of a defaultdict cannot be sorted
        problem = f"jax cannot flatten a {type(node).__name__}: {error}"
        raise CheckpointError(who, problem, fix="Put its entries into a dict.") from None
    kids = [child for _, child in keyed]
    if jax.tree_util.treedef_is_leaf(treedef) or opened(node) is not None:
        return [], kids, treedef.unflatten
    names = [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in keyed]
    return names, kids, treedef.unflatten


def is_leaf(node: Tree) -> bool:
    """Whether this is a leaf at first sight: what jax has to be asked about takes much longer."""
    kind = type(node)
    if kind in _LEAF_TYPES:
        return True
    if kind is dict:  # nearly all containers are
        return False
    found = isinstance(node, _LEAVES)
    # Of tracers jax decides one by one.
    if found and not issubclass(kind, jax.core.Tracer):
        _LEAF_TYPES.add(kind)
    return found


def _names(who: str, keys: list[Any]) -> list[str]:
    names = [str(key) for key in keys]
    if len(set(names)) < len(names):
        raise CheckpointError(
            who,
            "two keys of a dict are the same once they are written as strings",
            found=", ".join(map(repr, keys)),
            fix="Rename one: a checkpoint names its leaves by strings.",
        )
    return names


def flatten(who: str, tree: Tree) -> dict[Path, Any]:
    """Every leaf by its path. `None` is a leaf; an empty container is the leaf `{}`.

    A stack of what belongs to many matrices is one leaf for each parameter.
    """
    flat: dict[Path, Any] = {}
    stacks: dict[Path, OwnedStack] = {}

    def walk(node: Tree, path: Path) -> None:
        if isinstance(node, OwnedStack):
            stacks[path] = node
            return None
        if is_leaf(node) and len(path) <= MAX_DEPTH:
            flat[path] = node
            return None
        names, kids, _ = children(who, node)
        if len(path) > MAX_DEPTH:
            raise CheckpointError(
                who, f"the tree is deeper than {MAX_DEPTH} levels", path=shown(path)
            )
        if kids and not names:
            wrapped = kids[0] is not node  # a box: what it holds has its name
            return walk(kids[0], path) if wrapped else flat.__setitem__(path, node)
        if not kids:
            flat[path] = {}
        deep = len(path) >= MAX_DEPTH
        for name, kid in zip(names, kids, strict=True):
            if is_leaf(kid) and not deep:
                flat[*path, name] = kid
            else:
                walk(kid, (*path, name))
        return None

    walk(tree, ())
    for path, stack in stacks.items():
        for own, x in stack.apart(path[-1]).items():
            flat.pop((*path[:-4], own[0]), None)  # it is empty where all leaves are matrices
            flat[*path[:-4], *own] = x
    return flat


def rebuild(who: str, like: Tree, leaves: dict[Path, Any], path: Path = ()) -> Tree:
    """The containers of `like` with other leaves, by path."""
    if is_leaf(like):
        return leaves[path]
    if isinstance(like, OwnedStack):
        # What `owned/group/class/slot` holds stands by its name and path beside `owned`.
        return like.filled([leaves[*path[:-4], *own] for own in like.paths(path[-1])])
    names, kids, make = children(who, like)
    if not kids:
        return like
    if names:
        new = []
        for name, kid in zip(names, kids, strict=True):
            within = (*path, name)
            new.append(leaves[within] if is_leaf(kid) else rebuild(who, kid, leaves, within))
        return make(new)
    return leaves[path] if kids[0] is like else make([rebuild(who, kids[0], leaves, path)])


def kinds_of(
    who: str,
    leaves: Mapping[Path, Any],
    head: str = "these leaves cannot be in a checkpoint",
) -> dict[Path, Kind]:
    """The kind of every leaf, or one error that lists the leaves that have none."""
    kinds: dict[Path, Kind] = {}
    unfit: list[str] = []
    for path, leaf in leaves.items():
        kind = kind_of(leaf)
        if isinstance(kind, Kind):
            kinds[path] = kind
        else:
            unfit.append(f"{shown(path) or '(the only leaf)'}: {kind}")
    if unfit:
        raise CheckpointError(who, join(head, unfit))
    return kinds


def kind_of(leaf: Any) -> Kind | str:
    """The kind of a leaf, or why it cannot be in a checkpoint and what to do."""
    if type(leaf) in PLAIN or type(leaf) is dict:
        return kind_like(type(leaf).__name__)
    if type(leaf) is not np.ndarray and isinstance(leaf, np.ma.MaskedArray):
        return "a masked array would lose its mask; save its data and its mask as two leaves"
    dtype, shape = getattr(leaf, "dtype", None), getattr(leaf, "shape", None)
    if dtype is None or shape is None:
        return (
            f"a {type(leaf).__name__} is neither an array nor a number, string or None; take the "
            f"arrays out first, e.g. equinox.filter(model, equinox.is_array)"
        )
    try:
        return _array_kind(dtype, tuple(shape))
    except (TypeError, ValueError):
        return (
            f"a {type(leaf).__name__} of {dtype} is no array that numpy knows; make it one first, "
            f"e.g. tensor.numpy()"
        )


@functools.lru_cache(2**12)
def _array_kind(dtype: Any, shape: tuple[Any, ...]) -> Kind | str:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return (
            "a typed PRNG key is no data; save jax.random.key_data(key), and restore it with "
            "jax.random.wrap_key_data(data)"
        )
    name = np.dtype(dtype).name
    if name not in DTYPES:
        return f"dtype {name} has no place in the format; cast it first"
    return kind_like(name, tuple([int(n) for n in shape]))


def join(head: str, lines: Iterable[str]) -> str:
    """A headline with indented lines."""
    return "\n".join([head, *(f"  {line}" for line in lines)])
