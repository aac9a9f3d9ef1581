"""Which of torch's tensors a parameter is, and how its axes are turned."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jopt.base import ConfigError
from jopt.interop._given import shown, table, word

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

    def there(self, array: Any) -> Any:
        """Jopt's array with torch's axes; a single number, such as a product of steps, as it is."""
        return array if self.axes is None or array.ndim == 0 else array.transpose(self.axes)

    def here(self, array: Any) -> Any:
        """Torch's array with jopt's axes."""
        if self.axes is None or array.ndim == 0:
            return array
        return array.transpose([self.axes.index(i) for i in range(len(self.axes))])

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


def each_layer(weight: Weight, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], Weight]]:
    """Every layer of a leaf of this shape, and what a weight says of it.

    >>> each_layer(Weight("layers.{}.fc.weight", (1, 0)), (1, 4, 2))
    [((0,), Weight(name='layers.0.fc.weight', axes=(1, 0)))]
    """
    found = []
    for layer in itertools.product(*map(range, shape[: weight.layers])):
        name = weight.name
        for number in layer:
            name = name.replace(LAYER, str(number), 1)
        found.append((layer, Weight(name, weight.axes)))
    return found


class Ordered(dict[str, Weight]):
    """Torch's names and axes by path, in torch's order, which is remembered name by name."""

    def __init__(self, weights: Mapping[str, Weight], order: Iterable[str]) -> None:
        super().__init__(weights)
        self.order: tuple[str, ...] = tuple(order)


class Unordered(dict[str, Weight]):
    """Torch's names and axes by path, in an order that is not known to be torch's.

    It serves wherever names decide. Where a place does, as in a state dict without names, it
    is refused: two leaves of one shape would change places, and nothing would tell.
    """


def weights_by_path(who: str, name: str, given: Any, expected: str) -> dict[str, Weight]:
    """A mapping from paths to torch's names with a `Weight` for each, in an order as known."""
    for path, weight in table(who, name, given, expected).items():
        if not isinstance(weight, str | Weight):
            problem = f"{name}= gives a leaf something that is no name"
            wanted, found = "a str or a jopt.interop.torch.Weight", shown(weight)
            raise ConfigError(who, problem, path=path, expected=wanted, found=found)
    weights = {p: Weight(w) if isinstance(w, str) else w for p, w in given.items()}
    if isinstance(given, Ordered):
        return Ordered(weights, given.order)
    return Unordered(weights) if isinstance(given, Unordered) else weights
