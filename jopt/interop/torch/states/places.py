"""Which of torch's parameters is which leaf."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jopt.base import CheckpointError, ConfigError, as_row
from jopt.checkpoint.leaves import join
from jopt.core.groups import Labels, key_of
from jopt.core.spec import Shape
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.weights import Ordered, Unordered, Weight

Axes = tuple[int, ...]
_SAY = (
    "Say which leaf each one is: names=[...] of paths in torch's order, or "
    "names={path: torch's name}."
)
Names = Sequence[str] | Mapping[str, Any] | None


def in_a_row(names: Any) -> Any:
    """`names`, read once: an iterator would be used up by the first part of a chain."""
    return names if isinstance(names, str | Mapping | Sequence) else as_row(names)


def named(who: str, all_names: Sequence[str], target: Target, names: Names) -> Names:
    """What `names` says of the leaves of one target, checked against all leaves there are."""
    if names is None:
        return None
    row = not isinstance(names, str | Mapping) and isinstance(names, Sequence)
    words = row and all(isinstance(name, str) for name in names)
    if not isinstance(names, Mapping) and not words:
        raise ConfigError(
            who,
            "names= says which of torch's parameters each leaf is",
            expected="paths in torch's order, or {path: torch's name or Weight}",
            found=repr(names),
        )
    known = set(all_names)
    unknown = [p for p in names if p not in known]
    if unknown:
        raise ConfigError(
            who,
            "names= has paths that are no leaf",
            expected=", ".join(all_names),
            found=", ".join(map(str, unknown)),
        )
    mine = set(target.layout.names)
    if isinstance(names, Mapping):
        kept = {p: w for p, w in names.items() if p in mine}
        if isinstance(names, Ordered):
            return Ordered(kept, names.order)
        return Unordered(kept) if isinstance(names, Unordered) else kept
    return [p for p in names if p in mine]


@dataclass(frozen=True)
class Member:
    """A parameter on torch's side: its id, its group's number, and jopt's leaf.

    `name` is torch's, if it has one; `weight` says how its axes are turned, if they are.
    """

    id: Any
    group: int
    leaf: int
    name: str | None = None
    weight: Weight | None = None

    @property
    def axes(self) -> Axes | None:
        """Torch's array is jopt's with these axes in this order; `None` for the same order."""
        return None if self.weight is None else self.weight.axes

    def shown(self, target: Target) -> str:
        """As errors show it."""
        torch = f"parameter {self.id}" if self.name is None else repr(self.name)
        return f"{target.layout.names[self.leaf]} (torch's {torch})"

    def turned(self, array: Any) -> Any:
        """Jopt's array with torch's axes; a single number, such as a product of steps, as it is."""
        return array if self.axes is None or array.ndim == 0 else array.transpose(self.axes)

    def back(self, array: Any) -> Any:
        """Torch's array with jopt's axes."""
        back = None if self.weight is None else self.weight.back
        return array if back is None or array.ndim == 0 else array.transpose(back)

    def shape(self, target: Target) -> Shape:
        """The parameter's shape in torch."""
        shape = tuple(target.params[self.leaf].shape)
        return shape if self.axes is None else tuple(shape[i] for i in self.axes)


def weight_of(who: str, target: Target, leaf: int, given: Any) -> Weight | None:
    """What `names` says of a leaf, checked; `None` if it says nothing."""
    if given is None:
        return None
    weight = Weight(given) if isinstance(given, str) else given
    path, shape = target.layout.names[leaf], tuple(target.params[leaf].shape)
    if not isinstance(weight, Weight):
        raise ConfigError(
            who,
            "names= gives a leaf something that is no name",
            path=path,
            expected="a str or a jopt.interop.torch.Weight",
            found=repr(weight),
        )
    weight.shape(who, path, shape)
    same = weight.axes is None or weight.axes == tuple(range(len(shape)))
    return Weight(weight.name) if same else weight


def matched(
    who: str, target: Target, groups: Sequence[Mapping[str, Any]], names: Names
) -> list[Member]:
    """Torch's parameters with their leaves, or one error that lists all that have no partner."""
    ids = [(g, i) for g, group in enumerate(groups) for i in group["params"]]
    theirs = _names(who, groups)
    index = {name: i for i, name in enumerate(target.layout.names)}
    weights = {
        p: weight_of(who, target, index[p], w)
        for p, w in (names.items() if isinstance(names, Mapping) else ())
    }
    order: list[str | None]
    if theirs is not None and not isinstance(names, Sequence):
        # Torch separates the parts of a name by dots where jopt has slashes.
        paths = zip(target.layout.paths, index, strict=True)
        known = {".".join(path): p for path, p in paths} | {p: p for p in index}
        known = known if names is None else {w.name: p for p, w in weights.items() if w is not None}
        order = [known.get(name) for name in theirs]
    else:
        _check_ordered(who, names, "the state dict has no names, and")
        order = list(_in_order(who, target, list(index if names is None else names), len(ids)))
    shown = theirs or [i for _, i in ids]
    unknown = [x for x, path in zip(shown, order, strict=True) if path is None]
    _check(who, target, order, unknown, names)
    members = []
    for n, ((g, i), path) in enumerate(zip(ids, order, strict=True)):
        weight = weights.get(path or "")
        name = theirs[n] if theirs is not None else weight.name if weight is not None else None
        members.append(Member(i, g, index[path or ""], name, weight))
    return members


def _names(who: str, groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Torch's own names: `param_names`, or ids that are names (as torch's DCP writes them)."""
    rows = [g.get("param_names", g["params"]) for g in groups]
    for n, (group, row) in enumerate(zip(groups, rows, strict=True)):
        if not isinstance(row, list | tuple):
            raise CheckpointError(
                who, f"the names of group {n} are no list", expected="a list", found=repr(row)
            )
        if len(row) != len(group["params"]):
            raise CheckpointError(
                who,
                f"group {n} has another number of names than of parameters",
                expected=len(group["params"]),
                found=len(row),
            )
    flat = [name for row in rows for name in row]
    if not flat or not all(isinstance(name, str) for name in flat):
        return None
    if len(set(flat)) < len(flat):
        twice = sorted(n for n, k in Counter(flat).items() if k > 1)
        raise CheckpointError(who, "two parameters have one name", found=", ".join(twice))
    return flat


def _check_ordered(who: str, names: Names, why: str) -> None:
    if isinstance(names, Unordered) and len(names) > 1:
        raise ConfigError(
            who,
            f"{why} names= does not know torch's order",
            expected="a mapping in torch's order",
            found=", ".join(names),
            fix="Say it: flax_weights(params, order=model.state_dict()), or the names alone.",
        )


def named_in(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether torch's groups, which were matched, have names of their own."""
    return _names("", groups) is not None


def _in_order(who: str, target: Target, paths: list[str], n: int) -> list[str]:
    """As many paths as torch has parameters: all that are given, else those not frozen."""
    live = {target.layout.names[i] for i in target.live}
    known = set(target.layout.names)
    mine = [p for p in paths if p in known]
    for found in (paths, mine, [p for p in mine if p in live]):
        if len(found) == n:
            return found
    raise CheckpointError(
        who,
        f"{target.torch} has another number of parameters than {target.label} has leaves",
        expected=f"{len([p for p in paths if p in live])}: {', '.join(paths)}",
        found=n,
        fix=_SAY,
    )


def _check(
    who: str, target: Target, order: Sequence[str | None], unknown: list[Any], names: Names
) -> None:
    here = Counter(p for p in order if p is not None)
    twice = sorted(p for p, n in here.items() if n > 1)
    missing = [n for i in target.live if (n := target.layout.names[i]) not in here]
    lines = [f"no leaf for torch's {u!r}" for u in unknown]
    lines += [f"no parameter of torch for {m}" for m in missing]
    lines += [f"two parameters of torch for {t}" for t in twice]
    if lines:
        raise CheckpointError(
            who,
            join("torch's parameters and the leaves do not pair off", lines),
            fix=_SAY if names is None else None,
        )


def placed(who: str, target: Target, names: Names) -> list[list[Member]]:
    """The members of each torch group that an export writes, with ids in torch's order."""
    index = {name: i for i, name in enumerate(target.layout.names)}
    live = set(target.live)
    _check_ordered(who, names, "torch's load_state_dict goes by places, and")
    chosen = list(names) if names is not None else [target.layout.names[i] for i in target.live]
    mine = [index[p] for p in chosen]
    _check(who, target, chosen, [], names)
    if names is None or isinstance(names, Mapping):
        labels = [target.groups[i] if i in live else () for i in mine]
        order = [*target.part.groups]
        declared = sorted({*labels}, key=lambda held: [order.index(label) for label in held])
        runs = [(k, [i for i, x in zip(mine, labels, strict=True) if x == k]) for k in declared]
    else:
        runs = _runs(who, target, mine)
    rows: list[list[Member]] = []
    numbers = itertools.count()
    for _, row in runs:
        members = []
        for i in row:
            given = names[target.layout.names[i]] if isinstance(names, Mapping) else None
            weight = weight_of(who, target, i, given)
            name = None if weight is None else weight.name
            members.append(Member(next(numbers), len(rows), i, name, weight))
        rows += [members] if members else []
    return rows


def _runs(who: str, target: Target, order: list[int]) -> list[tuple[Labels, list[int]]]:
    """Consecutive leaves of the same groups; a frozen leaf has no numbers and joins the last."""
    runs: list[tuple[Labels, list[int]]] = []
    live = set(target.live)
    first = next((target.groups[i] for i in order if i in live), ())
    for i in order:
        label = target.groups[i] if i in live else (runs[-1][0] if runs else first)
        if not runs or runs[-1][0] != label:
            runs.append((label, []))
        runs[-1][1].append(i)
    labels = [label for label, _ in runs]
    if len(set(labels)) < len(labels):
        raise ConfigError(
            who,
            "torch's order runs group by group, and this one does not",
            expected="the leaves of one group next to each other",
            found=", ".join(map(key_of, labels)),
        )
    return runs
