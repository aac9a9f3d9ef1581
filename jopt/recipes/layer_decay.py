"""Layer-wise learning-rate decay: groups for the layers of a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jopt.base import ConfigError, GroupError, checked
from jopt.core import Group, Hyper, group, times
from jopt.core.checks import check_count
from jopt.core.groups import Match, Picker
from jopt.core.match import settled_match


class Layer(Picker):
    """The leaves of one layer of several, by the number in their paths."""

    def __init__(self, pattern: str, number: int, depth: int) -> None:
        self.settings: tuple[str, int, int] = pattern, number, depth

    def pick(self, who: str, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
        """Whether each leaf is of the layer; a number of none of them is an error."""
        pattern, number, depth = self.settings
        found = {n: m[1] for n in names if (m := re.search(pattern, n)) is not None}
        known = {str(i): i for i in range(depth)}
        for name, text in found.items():
            if text not in known:
                raise GroupError(
                    who,
                    "layer_decay has no such layer",
                    path=name,
                    expected=f"0 to {depth - 1}",
                    found=text,
                    fix="Layers count from 0: depth= says how many there are.",
                )
        return [name in found and known[found[name]] == number for name in names]

    def __repr__(self) -> str:
        return "Layer({!r}, {}, {})".format(*self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)


DEEPEST = 10_000
"""More layers than any model has: to make so many groups takes a second."""


@checked
def layer_decay(
    pattern: str, *, decay: float, depth: int, below: Match | None = None
) -> dict[str, Group]:
    r"""Groups for layer-wise learning-rate decay: the deeper a layer, the slower it learns.

    Of `depth` layers, numbered from 0, layer i has decay^(depth − i) times the learning rate, and
    what lies `below` all of them, embeddings, decay^(depth + 1) times. All else, such as a head,
    has the learning rate itself. The groups stand beside others: a leaf may be in both.

    **Arguments:**

    - `pattern`: a regular expression, searched in the leaf's path, whose one group is the number
      of the layer.
    - `decay`: the ratio of two layers, in (0, 1].
    - `depth`: how many layers there are.
    - `below`: what lies before the first layer, as in `jopt.group`.

    **Raises:** `ConfigError` for arguments out of range. When the optimizer meets the parameters:
    `GroupError` for a layer without leaves, and for a leaf of a layer that is none of them.

    >>> import jopt
    >>> groups = jopt.recipes.layer_decay(r"layer_(\d+)/", decay=0.5, depth=2)
    >>> {name: made.numbers["learning_rate"] for name, made in groups.items()}
    {'layer_0': jopt.times(factor=0.25), 'layer_1': jopt.times(factor=0.5)}
    >>> no_decay = jopt.group(r"(bias|scale)$", weight_decay=0.0)
    >>> tx = jopt.adamw(1e-3, weight_decay=0.1, groups={"no_decay": no_decay, **groups})

    Source: Bao et al., 2022, "BEiT: BERT pre-training of image transformers".
    """
    settled_match("layer_decay", "pattern", pattern)
    if re.compile(pattern).groups != 1:
        problem, wanted = "the pattern has one group, the layer's number", r"such as 'layer_(\d+)'"
        raise ConfigError("layer_decay", problem, expected=wanted, found=repr(pattern)[:100])
    depth = check_count("layer_decay", "depth", depth, 1, "layers")
    if depth > DEEPEST:
        raise ConfigError(
            "layer_decay", "each layer is a group", expected=f"depth <= {DEEPEST}", found=depth
        )
    Hyper("decay", "(0, 1]").check("layer_decay", decay)
    lowest = {} if below is None else {"below": (below, depth + 1)}
    layers = {f"layer_{i}": (Layer(pattern, i, depth), depth - i) for i in range(depth)}
    return {
        name: group(match, learning_rate=times(decay**power))
        for name, (match, power) in {**lowest, **layers}.items()
    }
