"""One call of a factory: what was written, and what that comes to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jopt.base.alike import alike
from jopt.base.described import written

_ROW = inspect.Parameter.VAR_POSITIONAL
_ALONE = inspect.Parameter.POSITIONAL_ONLY


class Call:
    """One call of a public factory: what was written, and all arguments with defaults filled."""

    def __init__(
        self,
        prefix: str,
        factory: Callable[..., Any],
        bound: inspect.BoundArguments,
        shared: frozenset[str] = frozenset(),
        named_by: str | None = None,
    ) -> None:
        self.prefix = prefix
        self.factory = factory
        self.name: str = bound.arguments[named_by].name if named_by else factory.__name__
        self.args: tuple[Any, ...] = bound.args
        self.kwargs: dict[str, Any] = bound.kwargs
        self._written = dict(bound.arguments)
        self._kinds = bound.signature.parameters
        bound.apply_defaults()
        self.arguments: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self._kinds[name].kind is inspect.Parameter.VAR_KEYWORD:
                # Optional ones, all of them: not given and given as None are the same.
                given = {k: v for k, v in value.items() if not _empty(v)}
                self.arguments.update(given)
            elif name not in shared or isinstance(value, bool) or not self._by_itself(name, value):
                self.arguments[name] = value

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal configurations, and hashable."""
        return alike(self.factory), alike(self.arguments)

    @property
    def positional(self) -> list[Any]:
        """The arguments that are written without a name."""
        kinds = {k: p.kind for k, p in self._kinds.items() if k in self._written}
        one = [self._written[k] for k, kind in kinds.items() if kind is _ALONE]
        return one + [x for k, kind in kinds.items() if kind is _ROW for x in self._written[k]]

    @property
    def named(self) -> dict[str, Any]:
        """All others, those that the factory has by default included."""
        kinds = {k: p.kind for k, p in self._kinds.items()}
        return {k: v for k, v in self.arguments.items() if kinds.get(k) not in (_ALONE, _ROW)}

    def _by_itself(self, name: str, value: Any) -> bool:
        return _empty(value) or _same(value, self._kinds[name].default)

    def __repr__(self) -> str:
        shown: list[str] = []
        for name, value in self._written.items():
            kind = self._kinds[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                shown += [written(v) for v in value]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                shown += [f"{k}={written(v)}" for k, v in value.items()]
            elif kind is inspect.Parameter.POSITIONAL_ONLY:
                shown.append(written(value))
            else:
                shown.append(f"{name}={written(value)}")
        return f"{self.prefix}{self.factory.__name__}({', '.join(shown)})"


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)  # arrays have no truth


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and not value)
