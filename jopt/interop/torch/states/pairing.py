"""Torch's groups and parameters beside jopt's leaves: on the way in, and on the way out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jopt.base import CheckpointError, ConfigError
from jopt.checkpoint.leaves import join
from jopt.core.groups import Labels, key_of
from jopt.interop._given import shown
from jopt.interop.torch.states.members import Member, Naming

_SAY = (
    "Say which leaf each one is: names=[...] of paths in torch's order, or "
    "names={path: torch's name}."
)


def matched(who: str, groups: Sequence[Mapping[str, Any]], said: Naming) -> list[Member]:
    """Torch's parameters with their leaves, or one error that lists all that have no partner."""
    ids = [(g, i) for g, group in enumerate(groups) for i in group["params"]]
    theirs = names_in(who, groups)
    order: list[Member | None]
    if theirs is not None and not said.in_a_row:
        known = {m.name: m for m in said.members if m.name is not None}
        if said.names is None:
            # Torch separates the parts of a name by dots where jopt has slashes.
            dotted = {".".join(m.path): m for m in said.members}
            known = dotted | {m.called: m for m in said.members}
        order = [known.get(name) for name in theirs]
    else:
        said.check_ordered(who, "the state dict has no names, and")
        order = list(_in_order(who, said, len(ids)))
    shown = theirs or [i for _, i in ids]
    unknown = [x for x, m in zip(shown, order, strict=True) if m is None]
    found = [m for m in order if m is not None]
    _check(who, said, found, unknown)
    names: Sequence[str | None] = theirs or [m.name for m in found]
    rows = zip(found, names, ids, strict=True)
    return [replace(m, name=name, group=g, id=i) for m, name, (g, i) in rows]


def names_in(who: str, groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Torch's own names: `param_names`, or ids that are names (as torch's DCP writes them)."""
    rows = [g.get("param_names", g["params"]) for g in groups]
    for n, (group, row) in enumerate(zip(groups, rows, strict=True)):
        many = len(group["params"])
        if not isinstance(row, list | tuple) or len(row) != many:
            problem, found = f"the names of group {n} are no list", shown(row)
            raise CheckpointError(who, problem, expected=f"one of {many} names", found=found)
    flat = [name for row in rows for name in row]
    if not flat or not all(isinstance(name, str) for name in flat):
        return None
    if len(set(flat)) < len(flat):
        twice = sorted(n for n, k in Counter(flat).items() if k > 1)
        raise CheckpointError(who, "two parameters have one name", found=", ".join(twice))
    return flat


def _in_order(who: str, said: Naming, n: int) -> list[Member]:
    """As many leaves as torch has parameters: all that are given, else those not frozen."""
    target, live = said.target, [m for m in said.members if m.moves]
    for found in (said.members, live):
        if len(found) == n:
            return found
    raise CheckpointError(
        who,
        f"{target.torch} has another number of parameters than {target.label} has leaves",
        expected=f"{len(live)}: {', '.join(m.called for m in said.members)}",
        found=n,
        fix=_SAY,
    )


def _check(who: str, said: Naming, order: Sequence[Member], unknown: list[Any]) -> None:
    here = Counter(m.called for m in order)
    told = {m.leaf for m in said.members}
    target = said.target
    wanted = said.members + [Member(target, i) for i in target.live if i not in told]
    wanted = sorted((m for m in wanted if m.moves), key=lambda m: (m.leaf, m.layer))
    lines = [f"no leaf for torch's {u!r}" for u in unknown]
    lines += [f"no parameter of torch for {m.called}" for m in wanted if m.called not in here]
    twice = sorted(name for name, n in here.items() if n > 1)
    lines += [f"two parameters of torch for {name}" for name in twice]
    if lines:
        raise CheckpointError(
            who,
            join("torch's parameters and the leaves do not pair off", lines),
            fix=_SAY if said.names is None else None,
        )


def placed(who: str, said: Naming) -> list[list[Member]]:
    """The members of each torch group that an export writes, with ids in torch's order."""
    said.check_ordered(who, "torch's load_state_dict goes by places, and")
    members = [m for m in said.members if m.moves or said.names is not None]
    _check(who, said, members, [])
    target = said.target
    held: list[Labels | None] = [target.groups[m.leaf] if m.moves else None for m in members]
    if said.in_a_row:
        # A frozen leaf has no numbers and joins the last.
        first = next((labels for labels in held if labels is not None), ())
        last = itertools.accumulate(held, lambda a, b: a if b is None else b, initial=first)
        rows = [*zip(itertools.islice(last, 1, None), members, strict=True)]
    else:
        order = [*target.part.groups]
        rows = [(labels or (), m) for labels, m in zip(held, members, strict=True)]
        rows.sort(key=lambda row: [order.index(label) for label in row[0]])
    runs = [(k, [m for _, m in run]) for k, run in itertools.groupby(rows, lambda row: row[0])]
    if len({labels for labels, _ in runs}) < len(runs):
        raise ConfigError(
            who,
            "torch's order runs group by group, and this one does not",
            expected="the leaves of one group next to each other",
            found=", ".join(key_of(labels) for labels, _ in runs),
        )
    ids = itertools.count()
    return [[replace(m, id=next(ids), group=g) for m in run] for g, (_, run) in enumerate(runs)]
