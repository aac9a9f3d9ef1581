"""Rules and what goes with them, called: what authors give back is checked while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from jopt.base import ConfigError, called
from jopt.core.spec import Spec


def check_rule(spec: Any, rule: Any, prepare: Any, options: Any, **more: Any) -> None:
    """Raise `ConfigError` for what a door cannot lift; `more` are functions that it needs, too."""
    if not isinstance(spec, Spec):
        raise ConfigError(
            "a door",
            "this is no spec",
            expected="a jopt.Spec, then the rule",
            found=repr(spec)[:100],
        )
    functions = {"rule": rule, **more} | ({} if prepare is None else {"prepare": prepare})
    for name, function in functions.items():
        if not callable(function):
            raise ConfigError(
                spec.name,
                f"{name} is no function",
                expected="a function",
                found=repr(function)[:100],
            )
    known = options is None or isinstance(options, Mapping)
    if not known or not all(isinstance(name, str) for name in options or ()):
        raise ConfigError(
            spec.name,
            "options are static choices by name",
            expected="{name: choice}",
            found=repr(options)[:100],
        )


def ruled(
    rule: Callable[..., Any], slots: Collection[str], *args: Any
) -> tuple[Any, dict[str, Any]]:
    """What a rule gives for g, s, p and h: the update, and all the new slots."""
    return of_rule(rule, slots, called(_name(rule), "the rule", rule, *args))


def of_rule(rule: Any, slots: Collection[str], out: Any) -> tuple[Any, dict[str, Any]]:
    """`out`; a `ConfigError` unless it is an update and a dict with these slots."""
    pair = isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)
    missing = sorted({*slots} - out[1].keys()) if pair else []
    if not pair or missing:
        raise ConfigError(
            _name(rule),
            "the rule does not give the update and all new slots",
            expected=f"(update, {{{', '.join(map(repr, sorted(slots)))}}})",
            found=f"no {', '.join(missing)}" if missing else repr(out)[:100],
        )
    update, new = out
    return update, dict(new)


def hashable(who: str, options: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """Static choices, which a compiled rule is remembered by."""
    try:
        hash(options)
    except TypeError as error:
        raise ConfigError(
            who,
            "an option cannot be hashed, and a compiled rule is remembered by its options",
            expected="words, numbers, tuples",
            found=str(error),
        ) from None
    return options


def prepared(who: str, prepare: Callable[[Any], Any], h: Any) -> dict[str, Any]:
    """What `prepare` gives: scalars by name."""
    found = called(who, "prepare", prepare, h)
    if not isinstance(found, dict):
        raise ConfigError(
            who, "prepare gives no numbers", expected="{name: scalar}", found=repr(found)[:100]
        )
    return found


def _name(rule: Any) -> str:
    return str(getattr(rule, "__name__", "rule"))
