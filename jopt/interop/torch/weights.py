"""Which of torch's tensors a parameter is, and how its axes are turned."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jopt.base import ConfigError
from jopt.interop._given import table, word, wrong

LAYER = "{}"
"""What stands for the number of a layer in torch's name of a stacked leaf."""


@dataclass(frozen=True)
class Weight:
    """Torch's name for a parameter, and the order of its axes there.

    **Attributes:** `name`, such as `"encoder.0.weight"`; `axes`: torch's array is jopt's with
    `array.transpose(axes)`, `None` for the same order.

    A `{}` in the name stands for the number of a layer: the leaf is a stack, whose first axis
    numbers what torch has one by one, and `axes` are those of one layer. Two are two such axes.

    >>> Weight("fc.weight", (1, 0))
    Weight(name='fc.weight', axes=(1, 0))
    """

    name: str
    axes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        word("interop.torch.Weight", "name", self.name)
        axes = self.axes
        row = isinstance(axes, list | tuple) and all(type(i) is int for i in axes)
        if axes is not None and (not row or sorted(axes) != list(range(len(axes)))):
            raise ConfigError(
                "interop.torch.Weight",
                f"axes of {self.name!r} are no permutation",
                expected="each axis once, such as (1, 0)",
                found=self.axes,
            )

    @property
    def back(self) -> tuple[int, ...] | None:
        """The order that turns torch's array into jopt's."""
        if self.axes is None:
            return None
        return tuple(self.axes.index(i) for i in range(len(self.axes)))

    def shape(self, who: str, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in torch of a parameter of this shape; a `ConfigError` if it has other axes."""
        axes = range(len(shape)) if self.axes is None else self.axes
        if len(axes) != len(shape):
            raise ConfigError(
                who,
                f"the axes of {self.name!r} are not the parameter's",
                path=path,
                expected=f"{len(shape)} axes",
                found=self.axes,
            )
        return tuple(shape[i] for i in axes)

    @property
    def layers(self) -> int:
        """How many leading axes of the leaf number torch's parameters."""
        return self.name.count(LAYER)


def layer_of(weight: Weight, layer: tuple[int, ...]) -> Weight:
    """What a weight says of one layer.

    >>> layer_of(Weight("layers.{}.fc.weight", (1, 0)), (3,))
    Weight(name='layers.3.fc.weight', axes=(1, 0))
    """
    words = weight.name.split(LAYER)
    numbers = (*map(str, layer), "")
    return Weight("".join(a + b for a, b in zip(words, numbers, strict=True)), weight.axes)


def each_layer(weight: Weight, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], Weight]]:
    """Every layer of a leaf of this shape, and what a weight says of it."""
    numbered = itertools.product(*map(range, shape[: weight.layers]))
    return [(layer, layer_of(weight, layer)) for layer in numbered]


class Ordered(dict[str, Weight]):
    """Torch's names and axes by path, in torch's order, which is remembered name by name."""

    def __init__(self, weights: Mapping[str, Weight], order: Iterable[str]) -> None:
        super().__init__(weights)
        self.order: tuple[str, ...] = tuple(order)

    def sorted(self, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """Others, of single layers, in the same order."""
        place = {name: n for n, name in enumerate(self.order)}
        return dict(sorted(weights.items(), key=lambda item: place[item[1].name]))


class Unordered(dict[str, Weight]):
    """Torch's names and axes by path, in an order that is not known to be torch's.

    It serves wherever names decide. Where a place does, as in a state dict without names, it
    is refused: two leaves of one shape would change places, and nothing would tell.
    """


def weights_by_path(who: str, name: str, given: Any, expected: str) -> dict[str, Weight]:
    """A mapping from paths to torch's names with a `Weight` for each."""
    for path, weight in table(who, name, given, expected).items():
        if not isinstance(weight, str | Weight):
            raise wrong(who, f"{name}[{path!r}]", "torch's name", "a str or a Weight", weight)
    return {p: Weight(w) if isinstance(w, str) else w for p, w in given.items()}
