"""Where the leaves of a tree are, by name.

A state holds nested dicts keyed by strings, whatever container the parameters live in. A `Layout`
is the bridge: it flattens such a tree to a list once, and remembers the path of every leaf.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.tree_util import PyTreeDef

from jopt.base import TreeError
from jopt.core.boxes import Box, bare, opened
from jopt.core.nested import nest
from jopt.core.paths import Path, part_of, shown

Tree = Any
"""Any pytree: dicts, lists, dataclasses, `nnx.State`, Equinox modules; its leaves are arrays."""

EVERY = "<every parameter>"
"""The name of a parameter that stands for all of them: it is in every group and route."""


@dataclass(frozen=True)
class Layout:
    """The structure of a parameter tree, and the path of each of its leaves.

    **Attributes:** `treedef`; `paths`, one tuple of strings a leaf; `names`, the same as `shown`,
    for patterns and errors; `still`, the leaves that some part of the transform freezes, which
    every part leaves alone; `shapes`, those of the leaves, once a transform has seen them;
    `elsewhere`, paths of the leaves that the transform has sent another way; `boxes`, flax's
    around each leaf, empty if there are none; `away`: names and shapes of `elsewhere`.
    """

    treedef: PyTreeDef
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    still: frozenset[int] = frozenset()
    shapes: tuple[jax.ShapeDtypeStruct, ...] = ()
    elsewhere: tuple[Path, ...] = ()
    boxes: tuple[Box, ...] = ()
    away: tuple[tuple[str, jax.ShapeDtypeStruct], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def stands_for_all(self) -> bool:
        """Whether its one leaf stands for every parameter, see `jopt.core.outline`."""
        return self.paths == ((EVERY,),)

    @property
    def known(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of all leaves there are, by name, as far as they are known."""
        return dict(zip(self.names, self.shapes, strict=False)) | dict(self.away)

    def part(self, members: Sequence[int]) -> Layout:
        """The layout of a nested dict of these leaves, given in the order of their paths."""
        paths = tuple(self.paths[i] for i in members)
        treedef = jax.tree.structure(nest(paths, range(len(paths))))
        still = frozenset(n for n, i in enumerate(members) if i in self.still)
        mine = set(members)
        others = tuple(path for i, path in enumerate(self.paths) if i not in mine)
        names = tuple(self.names[i] for i in members)
        shapes = tuple(self.shapes[i] for i in members if self.shapes)
        named = zip(self.names, self.shapes, strict=False)
        away = tuple(pair for i, pair in enumerate(named) if i not in mine)
        elsewhere = (*others, *self.elsewhere)
        return Layout(treedef, paths, names, still, shapes, elsewhere, away=(*away, *self.away))


def layout_of(who: str, tree: Tree) -> Layout:
    """The layout of `tree`; `None` is no leaf. `who` names the transform in errors."""
    seen = _Seen(structure_of(who, tree), tree)
    try:
        hash(seen)
    except TypeError:  # some container's metadata: nothing to remember it by
        return _make(who, seen)
    try:
        return _cached(who, seen)
    finally:
        seen.tree = None  # what is remembered holds no arrays


def structure_of(who: str, tree: Tree) -> PyTreeDef:
    """jax's structure of a tree; `TreeError` if it has none."""
    try:
        return jax.tree.structure(tree)
    except (ValueError, TypeError) as error:
        raise TreeError(
            who,
            "a dict has keys that cannot be sorted",
            expected="keys of one kind, best of all strings",
            found=str(error).partition("\n")[0][:200],
        ) from None


class _Seen:
    """A tree, known by its structure.

    Containers that check what they hold bear nothing else in the place of their leaves, so the
    paths are read off the tree itself.
    """

    def __init__(self, treedef: PyTreeDef, tree: Tree) -> None:
        self.treedef = treedef
        self.tree = tree

    def __hash__(self) -> int:
        return hash(self.treedef)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen) and self.treedef == other.treedef


def _make(who: str, seen: _Seen) -> Layout:
    found = [*_found(seen.tree)]
    paths = tuple(path for path, _, _ in found)
    _check_distinct(who, paths)
    boxes = tuple(box for _, _, box in found)
    return Layout(seen.treedef, paths, tuple(map(shown, paths)), boxes=boxes if any(boxes) else ())


_cached = functools.lru_cache(maxsize=256)(_make)


def _found(
    tree: Tree, at: Path = (), within: Box = (), nones: bool = False
) -> Iterator[tuple[Path, Any, Box]]:
    """Every leaf with its path and the boxes around it. A box adds nothing to a path."""

    def ends(x: Any) -> bool:
        return (nones and x is None) or opened(x) is not None

    keyed, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=ends)
    for keys, x in keyed:
        path = (*at, *(part_of(k) for k in keys))
        if (inside := opened(x)) is None:
            yield path, x, within
        else:
            child, box = inside
            yield from _found(child, path, (*within, box), nones)


def _check_distinct(who: str, paths: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise TreeError(
                who,
                "two leaves have the same path once keys are written as strings",
                path=shown(path),
                fix="Rename one: a state names its leaves by strings.",
            )
        seen.add(path)


def match_leaves(who: str, what: str, layout: Layout, tree: Tree) -> list[Any]:
    """The leaves of `tree` in the order of `layout`; `None` may stand where a leaf would.

    Either may be in boxes where the other is not.
    """
    try:
        return [bare(x) for x in layout.treedef.flatten_up_to(tree)]
    except (ValueError, TypeError):
        structure_of(who, tree)
        leaves = _by_path(layout, tree)
        if leaves is None:
            raise _mismatch(who, what, layout, tree) from None
        return leaves


def _by_path(layout: Layout, tree: Tree) -> list[Any] | None:
    """The leaves of a tree that differs in its boxes only, if it does."""
    found = list(_found(tree, nones=True))
    if not (layout.boxes or any(box for _, _, box in found)):
        return None
    leaves = {path: x for path, x, _ in found}
    known = set(layout.paths)
    if not known <= leaves.keys() or any(x is not None and p not in known for p, x, _ in found):
        return None
    return [leaves[path] for path in layout.paths]


def _mismatch(who: str, what: str, layout: Layout, tree: Tree) -> TreeError:
    got = layout_of(who, tree)
    missing = sorted(set(layout.names) - set(got.names))
    extra = sorted(set(got.names) - set(layout.names))
    path = next(iter(missing or extra), None)
    if missing or extra:
        expected = "a leaf" if missing else "no leaf"
        found = "none" if missing else "one"
        more = len(missing) + len(extra) - 1
        problem = f"{what} have another structure than the parameters"
        if more:
            problem += f" ({more} more {'leaf differs' if more == 1 else 'leaves differ'})"
        return TreeError(who, problem, path=path, expected=expected, found=found)
    return TreeError(
        who,
        f"{what} have the parameters' leaves in other containers",
        expected=layout.treedef,
        found=got.treedef,
    )
