"""What a leaf is, told by its name and by what stands beside it.

A tree says nothing of layers. What this reads are the names that flax, equinox, haiku and torch
give, in whole words, and where a bias or a stack shows in the shapes around a leaf. It never
looks for a part of a word, and where names and shapes leave a choice it says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from jopt.core.spec import Shape

Kind = Literal["vector", "embedding", "matrix", "stack"]
"""`vector`: a bias or a scale, however many a stack holds; `matrix`: two axes, one linear map;
`stack`: of more axes, or of two in a stack of layers: what it is has to be said."""

VECTORS = frozenset({"bias", "biases", "scale", "scales", "offset", "gamma", "beta", "gain"})
NORM = re.compile(r"\w*norms?|\w*normali[sz]ation|ln|bn|gn|rms")
EMBEDDING = re.compile(r"(pos|un)?emb(s|eds?|eddings?|edders?)?|wte|wpe")
BESIDE_A_NORM = frozenset({"final", "in", "out", "input", "output", "pre", "post"})


def kinds(names: Sequence[str], shapes: Sequence[Shape]) -> list[Kind]:
    """The kind of each of these leaves, which are all there are."""
    tree = {segments(name): shape for name, shape in zip(names, shapes, strict=True)}
    return [_kind(path, tree) for path in map(segments, names)]


def segments(name: str) -> tuple[str, ...]:
    """The keys of a printed path; a key of haiku's, `mlp/~/linear`, is as many as it names."""
    keys = name.replace("~1", "/").replace("~0", "~").split("/")
    return tuple(k for k in keys if k != "~")


def runs(name: str) -> list[str]:
    """Every key of a printed path, and all that stand in a row."""
    keys = segments(name)
    ends = [(i, j) for i in range(len(keys)) for j in range(i + 1, len(keys) + 1)]
    return ["/".join(keys[i:j]) for i, j in ends]


def words(segment: str) -> list[str]:
    """`LayerNorm_0`, `layer_norm` and `layerNorm2` alike are `layer`, `norm`."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", segment)
    return [word.lower() for word in found]


def _kind(path: tuple[str, ...], tree: Mapping[tuple[str, ...], Shape]) -> Kind:
    axes = len(tree[path])
    if axes < 2 or is_vector(path, tree):
        return "vector"
    if any(EMBEDDING.fullmatch(word) for segment in path for word in words(segment)):
        return "embedding"
    plain = axes == 2 and (path[-1:] == ("kernel",) or not in_stack(path, tree, sure=False))
    return "matrix" if plain else "stack"


def is_vector(path: tuple[str, ...], tree: Mapping[tuple[str, ...], Shape]) -> bool:
    """Whether a leaf is a bias or a scale, by its name and what stands beside it."""
    own = words(path[-1]) if path else []
    if own and (own[-1] in VECTORS or own[0] == "bias" or _is_norm(own)):
        return True
    if len(path) > 1 and path[-1] != "kernel" and _is_norm(words(path[-2])):
        return True
    # What a bias of the same shape stands beside is a scale: a map has fewer outputs than entries.
    same = (p for p, s in tree.items() if p[:-1] == path[:-1] and p != path and s == tree[path])
    if any(words(p[-1])[:1] == ["bias"] for p in same):
        return True
    # `b` beside `w` is a bias; beside `a` it is one factor of two.
    letter = re.fullmatch(r"b(_?\d*)", path[-1]) if path else None
    return letter is not None and (*path[:-1], "w" + letter[1]) in tree


def _is_norm(own: Sequence[str]) -> bool:
    left = [w for w in own if len(w) > 1 and w not in BESIDE_A_NORM]
    return bool(left) and NORM.fullmatch(left[-1]) is not None


def in_stack(
    path: tuple[str, ...], tree: Mapping[tuple[str, ...], Shape], *, sure: bool = True
) -> bool:
    """Whether a module around this leaf holds a stack of layers: all begins with their number.

    **Arguments:** `tree`: the shapes of all leaves; `sure`: only if a bias or a scale shows it,
    which has one axis in a single layer.
    """
    for depth in range(1, len(path)):
        around = {p: s for p, s in tree.items() if p[:depth] == path[:depth]}
        first = {shape[0] if shape else 0 for shape in around.values()}
        vectors = [len(s) for p, s in around.items() if is_vector(p, tree)]
        deep = any(len(shape) > 2 for shape in around.values())
        if len(first) == 1 and deep and min(vectors, default=1 if sure else 2) > 1:
            return True
    return False
