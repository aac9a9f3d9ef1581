"""Which of torch's parameters is which leaf, or which layer of a stack of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jopt.base import ConfigError, as_row
from jopt.core.axes import stack_of
from jopt.core.paths import Path
from jopt.core.spec import Shape
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.weights import Ordered, Unordered, Weight, each_layer, weights_by_path

Names = Sequence[str] | Mapping[str, Any] | None
_SPLIT = (
    "Name torch's parameters by a pattern, names={path: Weight('layers.{}.weight', axes)}, and "
    "let axes= say only which leading axes number the layers; or split the stacks into leaves."
)


AS_HERE = Weight("")
"""What is said of a parameter whose axes are jopt's."""


@dataclass(frozen=True)
class Member:
    """A parameter of torch's, and the leaf that it is, or the layer of a leaf.

    **Attributes:** `layer`, its place along the leading axes of the leaf; `weight`, what `names=`
    says of its name and axes; `name`, torch's, if it has one; its `id` and `group` in torch.
    """

    target: Target
    leaf: int
    layer: tuple[int, ...] = ()
    weight: Weight = AS_HERE
    name: str | None = None
    id: Any = None
    group: int = 0

    @property
    def param(self) -> Any:
        """The leaf."""
        return self.target.params[self.leaf]

    @property
    def path(self) -> Path:
        """Where the leaf stands."""
        return self.target.layout.paths[self.leaf]

    @property
    def moves(self) -> bool:
        """Whether the leaf is not frozen."""
        return self.leaf in self.target.moving

    @property
    def called(self) -> str:
        """The name of the leaf, with that of the layer."""
        return "/".join((self.target.layout.names[self.leaf], *map(str, self.layer)))

    @property
    def shown(self) -> str:
        """As errors show it."""
        torch = f"parameter {self.id}" if self.name is None else repr(self.name)
        return f"{self.called} (torch's {torch})"

    @property
    def axes(self) -> tuple[int, ...] | None:
        """Torch's array is jopt's with these axes in this order; `None` for the same order."""
        return self.weight.axes

    @property
    def shape(self) -> Shape:
        """Its shape here."""
        return tuple(self.param.shape[len(self.layer) :])

    @property
    def shape_there(self) -> Shape:
        """Its shape in torch."""
        return self.shape if self.axes is None else tuple(self.shape[i] for i in self.axes)


@dataclass(frozen=True)
class Naming:
    """What `names=` says of one target.

    **Attributes:** `names`; `members`: its parameters, in the order of `names`; `ordered`: whether
    that is torch's.
    """

    target: Target
    names: Names
    members: list[Member]
    ordered: bool

    @property
    def in_a_row(self) -> bool:
        """Whether `names` is torch's order and nothing else."""
        return not isinstance(self.names, Mapping | None)

    def check_ordered(self, who: str, why: str) -> None:
        """Raise `ConfigError` where a place decides and `names` knows none."""
        if not self.ordered and len(self.members) > 1:
            raise ConfigError(
                who,
                f"{why} names= does not know torch's order",
                expected="a mapping in torch's order",
                found=", ".join(m.called for m in self.members),
                fix="Say it: flax_weights(params, order=model.state_dict()), or the names alone.",
            )


def read_names(who: str, known: Sequence[str], names: Any) -> Names:
    """`names`, read once, as an iterator is used up by that, and checked against all leaves."""
    expected = "paths in torch's order, or {path: torch's name or Weight}"
    if isinstance(names, Mapping):
        names = weights_by_path(who, "names", names, expected)
    elif names is not None:
        row = names if isinstance(names, str | Sequence) else as_row(names)
        if isinstance(row, str) or not all(isinstance(name, str) for name in row):
            problem = "names= says which of torch's parameters each leaf is"
            raise ConfigError(who, problem, expected=expected, found=repr(names))
        names = row
    every = set(known)
    if unknown := [p for p in names or () if p not in every]:
        raise ConfigError(
            who,
            "names= has paths that are no leaf",
            expected=", ".join(known),
            found=", ".join(map(str, unknown)),
        )
    read: Names = names
    return read


def naming(who: str, target: Target, names: Names) -> Naming:
    """What `names` says of this target; a `ConfigError` where it does not fit the leaves."""
    index = {name: i for i, name in enumerate(target.layout.names)}
    members: list[Member] = []
    for path in index if names is None else names:
        if path not in index:  # of another part
            continue
        leaf = index[path]
        if not isinstance(names, Mapping):
            members.append(Member(target, leaf))
            continue
        weight = _weight(who, target, leaf, names[path])
        each = each_layer(weight, tuple(target.params[leaf].shape))
        members += [Member(target, leaf, layer, one, one.name) for layer, one in each]
    split = any(m.layer for m in members)
    _check_stacks(who, target, {m.leaf: len(m.layer) for m in members})
    if split and isinstance(names, Ordered):
        place = {name: n for n, name in enumerate(names.order)}
        members.sort(key=lambda m: place[str(m.name)])
    ordered = isinstance(names, Ordered) or not (split or isinstance(names, Unordered))
    return Naming(target, names, members, ordered)


def _weight(who: str, target: Target, leaf: int, weight: Weight) -> Weight:
    """What a mapping says of a leaf, checked."""
    path, shape = target.layout.names[leaf], tuple(target.params[leaf].shape)
    if len(shape) < weight.layers:
        problem = f"{weight.name!r} has more layers than the leaf has axes"
        raise ConfigError(who, problem, path=path, found=f"shape {shape}")
    inner = weight.shape(who, path, shape[weight.layers :])
    same = weight.axes is None or weight.axes == tuple(range(len(inner)))
    return Weight(weight.name) if same else weight


def _check_stacks(who: str, target: Target, layers: Mapping[int, int]) -> None:
    """Raise `ConfigError` where the leaves of torch are other tensors than those of the rule."""
    part = target.part
    for i in target.live if part.looks else ():
        shape, n = tuple(target.params[i].shape), layers.get(i, 0)
        name, found = target.layout.names[i], target.stacks.get(i)
        numbers = " ".join(f"layer{k}" for k in range(n))
        wanted = stack_of(who, name, shape, f"{numbers} ...") if n else None
        if found != (None if wanted is None else replace(wanted, whole=part.whole)):
            raise ConfigError(
                who,
                f"torch has no leaf of several tensors, and {part.name} has other tensors here",
                path=name,
                expected="a stack of layers, each as torch has it" if wanted else "one tensor",
                found="one tensor" if found is None else f"axes={found.text!r}",
                fix=_SPLIT,
            )
