"""Which matrix a leaf of more than two axes is: stacked layers, flax's attention, convolutions.

Of a leaf called `kernel` in a module whose names and shapes say what it is, and of stacked layers
of any name:

- **Stacks.** A module is a stack of layers if all its leaves begin with their number, and its
  biases or scales, which have one axis in a single layer, show it: `nn.scan`, `nn.vmap`, experts.
  Stacks may hold stacks. Behind the numbers of layers a leaf is what it is in one layer.
- **Attention.** A module with kernels in `query`, `key`, `value` and `out` whose heads agree:
  `(d, heads, k)` is a matrix of d rows and heads·k columns, `out`'s `(heads, k, d)` one of d
  columns.
- **Convolutions.** A kernel in a module whose key has the word `conv`: `(h, w, i, o)` is a matrix
  of o columns. With one input a filter (`i` is 1), as where it is depthwise, it is taken for
  vectors: there is no map between channels. Filters of each place (`ConvLocal`) are not told.

Where two of these fit, or none, it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from jopt.core.leaf_kinds import in_stack, is_vector, words
from jopt.core.spec import Shape

Tree = Mapping[tuple[str, ...], Shape]

VECTOR = "vector"
PROJECTIONS = ("query", "key", "value")
OUT = "out"
SPACE = ("w", "h w", "d h w")
"""The axes of a filter, by how many there are."""


def line_of(path: tuple[str, ...], tree: Tree) -> str | None:
    """The axes of a leaf as `axes=` has them, `VECTOR` for none, or `None` if it is not told.

    **Arguments:** `tree`: the shapes of all leaves there are.
    """
    layers = layers_of(path, tree)
    if layers is None:  # what stands beside it may tell
        attention = _attention(path, tree) if path[-1] == "kernel" else None
        return None if attention is None else _line(*attention)
    rest = len(tree[path]) - layers
    found = []
    if is_vector(path, tree) or (layers and rest < 2):
        return VECTOR
    if layers and rest == 2:
        found.append(_line(layers, "i o"))
    if path[-1] == "kernel" and len(path) > 1:
        attention = _attention(path, tree)
        if attention is not None and layers in (0, attention[0]):
            found.append(_line(*attention))
        elif attention is not None:
            return None  # it is either, and stacked otherwise
        convolution = _convolution(path, rest, tree)
        if convolution is not None:
            found.append(convolution if convolution == VECTOR else _line(layers, convolution))
    return found[0] if len(found) == 1 else None


def layers_of(path: tuple[str, ...], tree: Tree) -> int | None:
    """How many leading axes of a leaf number layers; `None` where that is not told."""
    found = 0
    for depth in range(1, len(path)):
        around = {p: s for p, s in tree.items() if p[:depth] == path[:depth]}
        shapes = list(around.values())
        vectors = [s for p, s in around.items() if is_vector(p, tree)]
        most = min((len(s) for s in vectors), default=1) - 1
        same = 0
        while same < most and len({s[same] for s in shapes}) == 1:
            same += 1
        if same <= found or not any(len(s) > 2 for s in shapes):
            continue
        own = tree[path]
        if len(vectors) == 1 and own[len(own) - len(vectors[0]) :] == vectors[0]:
            return None  # or a map to several axes, of which there are as many as inputs
        found = same
    return found


def _attention(path: tuple[str, ...], tree: Tree) -> tuple[int, str] | None:
    """How many axes number layers, and the others."""
    *above, role, _ = path
    kernels = {k: tree.get((*above, k, "kernel")) for k in (*PROJECTIONS, OUT)}
    shapes = [s for s in kernels.values() if s is not None]
    if role not in kernels or len(shapes) < 4 or {len(s) for s in shapes} != {len(tree[path])}:
        return None
    layers = len(tree[path]) - 3
    if layers < 0:
        return None
    query, key, value, out = (s[layers:] for s in shapes)
    agree = query[1:] == key[1:] and query[1] == value[1] and value[1:] == out[:2]
    if not agree or len({s[:layers] for s in shapes}) > 1:
        return None
    return layers, "(heads k) d" if role == OUT else "d (heads k)"


def _convolution(path: tuple[str, ...], rest: int, tree: Tree) -> str | None:
    named = words(path[-2])
    if rest == len(tree[path]) and len(path) > 2 and in_stack(path[:-1], tree, sure=False):
        return None  # it may be one of a stack
    if "conv" not in named or "local" in named or not 3 <= rest <= 2 + len(SPACE):
        return None
    return VECTOR if tree[path][-2] == 1 else f"({SPACE[rest - 3]} i) o"


def _line(layers: int, axes: str) -> str:
    numbers = ["layer"] if layers == 1 else [f"layer{i}" for i in range(layers)]
    return " ".join([*numbers, axes])
