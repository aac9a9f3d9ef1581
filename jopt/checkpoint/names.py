"""Patterns on the names of leaves: which they match, and what they make of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jopt.base import CheckpointError
from jopt.checkpoint.leaves import Kind, join
from jopt.core.paths import Path, from_pointer, shown

EXAMPLES = 8
"""How many names an error shows to say what a pattern could match."""


def matched(who: str, patterns: Any, *paths: Iterable[Path]) -> set[Path]:
    """The paths whose name at least one of the patterns of `keep` matches somewhere."""
    if patterns is None:
        return set()
    names = {path: shown(path) for some in paths for path in some}
    alone = isinstance(patterns, str | re.Pattern)
    if not alone and (isinstance(patterns, Mapping) or not isinstance(patterns, Iterable)):
        raise _wrong(who, "keep", "a regular expression, or several", patterns)
    found: set[Path] = set()
    for pattern in [patterns] if alone else patterns:
        rule = _compiled(who, "keep", pattern)
        hits = {path for path, name in names.items() if rule.search(name)}
        if not hits:
            raise _nothing(who, "keep", rule, names.values())
        found |= hits
    return found


def renamed(who: str, kinds: Mapping[Path, Kind], rename: Any) -> dict[Path, Path]:
    """The new path of every leaf: each rule of `rename` in turn, as `re.sub` would."""
    if rename is None:
        return dict(zip(kinds, kinds, strict=True))
    if not isinstance(rename, Mapping):
        raise _wrong(who, "rename", "a dict of regular expressions and replacements", rename)
    new = {path: shown(path) for path in kinds}
    for pattern, replacement in rename.items():
        rule = _compiled(who, "rename", pattern)
        if not isinstance(replacement, str):
            raise _wrong(who, "rename", "a replacement as text, as for re.sub", replacement)
        hits = 0
        before = list(new.values())
        for path, name in new.items():
            try:
                new[path], n = rule.subn(replacement, name)
            except (re.error, IndexError) as error:
                problem = f"rename= has a replacement that re.sub refuses ({error})"
                raise CheckpointError(who, problem, found=repr(replacement)) from None
            hits += n
        if not hits:
            raise _nothing(who, "rename", rule, before)
    paths = {old: _path(who, old, name) for old, name in new.items()}
    return _distinct(who, paths, kinds)


def _path(who: str, old: Path, name: str) -> Path:
    if name == shown(old):
        return old
    try:
        return from_pointer("/" + name) if name else ()
    except ValueError:
        raise CheckpointError(
            who,
            "rename= makes something that is no name of a leaf",
            path=shown(old),
            found=repr(name),
            fix="In a name ~1 stands for a / within a key, and ~0 for a ~.",
        ) from None


def _distinct(who: str, paths: Mapping[Path, Path], kinds: Mapping[Path, Kind]) -> dict[Path, Path]:
    holders = {path[:i] for path in paths.values() for i in range(len(path))}
    # An empty container that others have been moved into is empty no more.
    kept = {
        old: new
        for old, new in paths.items()
        if not (kinds[old] == Kind("dict") and new in holders)
    }
    origins: dict[Path, list[str]] = {}
    for old, new in kept.items():
        origins.setdefault(new, []).append(shown(old))
    clashes = [
        f"{shown(new) or '(the only leaf)'}: from {' and '.join(old)}"
        for new, old in origins.items()
        if len(old) > 1
    ]
    clashes += [
        f"{shown(new) or '(the only leaf)'}: from {old[0]}, and others within it"
        for new, old in origins.items()
        if new in holders and len(old) == 1
    ]
    if clashes:
        raise CheckpointError(who, join("rename= gives several leaves one name", clashes))
    return kept


def _compiled(who: str, what: str, pattern: Any) -> re.Pattern[str]:
    try:
        rule = re.compile(pattern)
        if isinstance(rule.pattern, str):
            return rule
    except (re.error, OverflowError, RecursionError) as error:
        problem = f"{what}= has no valid regular expression ({error})"
        raise CheckpointError(who, problem, found=repr(pattern)) from None
    except TypeError:
        pass
    raise _wrong(who, what, "a regular expression as text", pattern)


def _wrong(who: str, what: str, expected: str, found: Any) -> CheckpointError:
    facts = {"expected": expected, "found": repr(found)}
    return CheckpointError(who, f"{what}= takes something else", **facts)


def _nothing(who: str, what: str, rule: re.Pattern[str], names: Iterable[str]) -> CheckpointError:
    known = sorted(names)
    more = f", and {len(known) - EXAMPLES} more" if len(known) > EXAMPLES else ""
    return CheckpointError(
        who,
        f"{what}= has a pattern that matches no leaf",
        expected="one of " + ", ".join(known[:EXAMPLES]) + more,
        found=repr(rule.pattern),
    )
