"""The one family of errors that jopt raises."""

from __future__ import annotations

from typing import Any


class JoptError(Exception):
    """The root of every error jopt raises.

    The message says, one line each: which transform, what is wrong, at which tree path,
    what was expected, what was found, and what to do about it. The same facts are
    attributes, for programs.

    **Attributes:** `transform`, `problem`, `path`, `expected`, `found`, `fix`: each a
    `str`, or `None` where it does not apply.

    >>> raise JoptError("adamw", "the gradient has another shape", path="dense/kernel",
    ...                 expected="(3, 4)", found="(4, 3)", fix="Transpose it.")
    Traceback (most recent call last):
      ...
    jopt.base.errors.JoptError: adamw: the gradient has another shape
      at:       dense/kernel
      expected: (3, 4)
      found:    (4, 3)
      Transpose it.
    """

    def __init__(
        self,
        transform: str,
        problem: str,
        *,
        path: str | None = None,
        expected: Any = None,
        found: Any = None,
        fix: str | None = None,
    ) -> None:
        self.transform = transform
        self.problem = problem
        self.path = path
        self.expected: str | None = None if expected is None else str(expected)
        self.found: str | None = None if found is None else str(found)
        self.fix = fix
        lines = [f"{transform}: {problem}"]
        if path is not None:
            lines.append(f"  at:       {path or '(the only leaf)'}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if found is not None:
            lines.append(f"  found:    {found}")
        if fix is not None:
            lines.append(f"  {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by `args`, which here is the finished message: keep the facts too.
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[JoptError], facts: dict[str, Any]) -> JoptError:
    facts = dict(facts)
    return kind(facts.pop("transform"), facts.pop("problem"), **facts)


class ConfigError(JoptError, ValueError):
    """A transform or schedule was asked for with an argument it cannot have."""


class CallError(ConfigError, TypeError):
    """A factory was called with arguments that its signature does not have."""


class GroupError(JoptError, ValueError):
    """A parameter group does not fit the parameters, or does not exist."""


class TreeError(JoptError, ValueError):
    """Gradients or parameters do not have the structure, shape or dtype they need."""


class StateError(JoptError, ValueError):
    """A state does not belong to the transform it was given to."""


class CheckpointError(JoptError, ValueError):
    """A state dict, byte string or file cannot be read, written or matched."""


class DamagedError(CheckpointError):
    """A checkpoint is not as it was written: an older one may be."""
