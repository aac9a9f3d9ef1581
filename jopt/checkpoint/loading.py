"""Which leaf of a state goes where in `like`, and the tree that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from jopt.base import CheckpointError
from jopt.checkpoint.compare import Report
from jopt.checkpoint.config import Mismatch, mismatch
from jopt.checkpoint.fitting import Changes, Fit, fitted, is_cast
from jopt.checkpoint.leaves import Kind, join, rebuild
from jopt.checkpoint.names import renamed
from jopt.checkpoint.placing import cast_to, placed
from jopt.checkpoint.renewed import renew
from jopt.core import Transform
from jopt.core.nested import nest
from jopt.core.paths import Path, shown
from jopt.core.tree import Tree


@dataclass(frozen=True)
class Plan:
    """Where each leaf goes.

    **Attributes:** `like`, with the leaf counts that the state has; `targets`, its leaves, or
    `None` if there is no `like`; `goes`, for each leaf that is taken, its path in the state and
    that in `like`; `casts`, the leaves of `like` whose dtype the state's numbers take; `tell`,
    what makes the report; `strict`, whether nobody asks for that; `renewed`, filled by `tree`:
    numbers that `like` has anew.
    """

    like: Tree
    targets: Mapping[Path, Any] | None
    goes: Mapping[Path, Path]
    casts: Mapping[Path, str]
    tell: Callable[[], Report]
    strict: bool = True
    renewed: list[str] = field(default_factory=list)

    @property
    def report(self) -> Report:
        """What was taken, and what not."""
        return replace(self.tell(), renewed=tuple(self.renewed))

    def loaded(
        self, who: str, leaves: Iterable[tuple[Path, Any]], tx: Transform | None = None
    ) -> Tree | tuple[Tree, Report]:
        """What a load returns: `tree`, or with `strict=False` the pair of it and the report."""
        tree = self.tree(who, leaves, tx)
        return tree if self.strict else (tree, self.report)

    def tree(
        self, who: str, leaves: Iterable[tuple[Path, Any]], tx: Transform | None = None
    ) -> Tree:
        """`like` with these leaves of the state, which come as host arrays, one at a time."""
        lost: list[str] = []
        values = self._values(leaves, lost)
        new = {**(self.targets or {}), **dict(placed(who, values, self.targets or {}))}
        if lost:
            raise CheckpointError(
                who,
                join("these numbers do not fit into the dtype of `like`", lost),
                fix="Nothing was loaded. Give `like` a wider dtype there, or keep= its value.",
            )
        self.renewed[:] = renew(who, new, self.targets, {*self.goes.values()}, tx)
        if self.targets is None:
            paths = sorted(new)
            return nest(paths, [new[path] for path in paths])
        return rebuild(who, self.like, new)

    def _values(
        self, leaves: Iterable[tuple[Path, Any]], lost: list[str]
    ) -> Iterator[tuple[Path, Any]]:
        """Where each leaf goes, in the dtype that is wanted; `lost` is told of what has none."""
        for path, value in leaves:
            to = self.goes.get(path)
            if to is None:
                continue
            if to in self.casts:
                value, problem = cast_to(self.casts[to], value)
                if problem:
                    lost.append(f"{shown(to) or '(the only leaf)'}: {problem}")
                    continue
            yield to, value
            del value  # its memory, where it was copied, is for the next


def plan(
    who: str,
    like: Tree,
    kinds: Mapping[Path, Kind],
    changes: Changes,
    *,
    strict: bool = True,
    mismatch: Mismatch | None = None,
) -> Plan:
    """How a state of these kinds is loaded; `strict` raises if any of it does not fit.

    `mismatch` is what is already known to be wrong with the transform, to be told along.
    """
    fit = fitted(who, like, kinds, changes)
    if strict and (fit.found or mismatch):
        raise _unfit(who, mismatch, fit)
    takes = fit.takes
    _check_values(who, {path: x for path, x in fit.targets.items() if path not in takes})
    whole = len(takes) == len(fit.names)
    goes = fit.names if whole else {old: new for old, new in fit.names.items() if new in takes}

    def tell() -> Report:
        return Report(
            loaded=_names(takes),
            kept=_names(fit.keep),
            renamed=_pairs(fit.names),
            casts=tuple(fit.casts),
            differences=tuple(fit.found),
            configuration=mismatch.told if mismatch else (),
        )

    casts = {d.path: d.expected for d in fit.casts}
    return Plan(fit.like, fit.targets, goes, casts, tell, strict)


def plan_stored(
    who: str,
    like: Tree,
    kinds: Mapping[Path, Kind],
    changes: Changes,
    strict: bool,
    tx: Transform | None,
    recorded: Any,
) -> Plan:
    """How a file is loaded, which has recorded a transform, or `None`; see `jopt.load`."""
    wrong = mismatch(who, tx, recorded)
    if like is None:
        return _plan_bare(who, kinds, changes, strict, wrong)
    return plan(who, like, kinds, changes, strict=strict, mismatch=wrong)


def _plan_bare(
    who: str,
    kinds: Mapping[Path, Kind],
    changes: Changes,
    strict: bool,
    mismatch: Mismatch | None,
) -> Plan:
    """The same without a `like`: nested dicts of host arrays."""
    asked = [k for k, v in (("keep", changes.keep is not None), ("cast", changes.cast)) if v]
    if asked:
        raise CheckpointError(
            who,
            f"{asked[0]}= goes by what `like` has, and there is no `like`",
            fix="Give the tree that is wanted: like=tx.init(params).",
        )
    names = renamed(who, kinds, changes.rename)
    if strict and mismatch:
        raise _unfit(who, mismatch)

    def tell() -> Report:
        return Report(
            loaded=_names(names.values()),
            renamed=_pairs(names),
            configuration=mismatch.told if mismatch else (),
        )

    return Plan(None, None, names, {}, tell, strict)


def _unfit(who: str, mismatch: Mismatch | None, fit: Fit | None = None) -> CheckpointError:
    found = fit.found if fit else []
    parts = [join(mismatch.problem, mismatch.lines)] if mismatch else []
    if found:
        count = "1 difference" if len(found) == 1 else f"{len(found)} differences"
        parts.append(join(f"the state does not fit `like`: {count}", map(str, found)))
    if mismatch:
        facts = {"expected": mismatch.expected, "found": mismatch.found, "fix": mismatch.fix}
        return CheckpointError(who, "\n".join(parts), **facts)
    fix = ["Nothing was loaded. strict=False takes what fits and keeps the rest of `like`."]
    problems = {d.problem for d in found}
    if {"missing", "unexpected"} <= problems:
        fix.append("rename= gives leaves of the state other names.")
    if problems & {"scheduled", "not scheduled"}:
        fix.append("keep= keeps the number or schedule of `like`.")
    if fit and any(is_cast(d, fit.wanted, fit.state) for d in found):
        fix.append("cast=True casts numbers.")
    return CheckpointError(who, "\n".join(parts), fix=" ".join(fix))


def _names(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(shown(path) for path in sorted(paths))


def _pairs(names: Mapping[Path, Path]) -> tuple[tuple[str, str], ...]:
    return tuple((shown(a), shown(b)) for a, b in sorted(names.items()) if a != b)


def _check_values(who: str, rest: Mapping[Path, Any]) -> None:
    """Raise `CheckpointError` if a leaf that stays what it is in `like` has no value there."""
    lost = [
        f"{shown(path) or '(the only leaf)'}: {what}"
        for path, x in sorted(rest.items())
        if (what := _no_value(x))
    ]
    if lost:
        problem = "`like` has no value to keep, at"
        fix = "Give `like` arrays there: tx.init(params) in place of jax.eval_shape."
        raise CheckpointError(who, join(problem, lost), fix=fix)


def _no_value(x: Any) -> str | None:
    if isinstance(x, jax.ShapeDtypeStruct):
        return "a shape"
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and x.is_deleted():
        return "an array that was donated"
    return None
