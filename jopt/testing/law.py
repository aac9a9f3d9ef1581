"""What a law is, how it says that it is broken, and the list of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jopt.testing.subject import Subject


class BrokenError(AssertionError):
    """A law does not hold: where, what was expected and what was found."""

    def __init__(
        self, problem: str, *, path: str | None = None, expected: Any = None, found: Any = None
    ) -> None:
        self.problem, self.path = problem, path
        self.expected: str | None = None if expected is None else str(expected)
        self.found: str | None = None if found is None else str(found)
        told = [problem]
        told += [f"at {path}"] if path else []
        told += [f"expected {self.expected}"] if expected is not None else []
        told += [f"found {self.found}"] if found is not None else []
        super().__init__(", ".join(told))


@dataclass(frozen=True)
class Law:
    """Something that holds for every optimizer that one can rely on.

    **Attributes:** `name`; `says`, the law in words; `of`, what it asks of the optimizer for it to
    be asked: `"ours"` (a jopt transform), `"elementwise"`; `dtypes`, the dtypes of parameters that
    it is asked with, of those that `jopt.testing.check` is given, or `None` for float32 alone.
    """

    name: str
    says: str
    of: tuple[str, ...]
    dtypes: tuple[str, ...] | None
    holds: Callable[..., None]

    def __call__(self, subject: Subject, dtype: str = "float32") -> None:
        """Raise `BrokenError` where it does not hold."""
        with subject.precision(dtype):
            self.holds(subject, dtype)


class Laws(dict[str, Law]):
    """Every law by its name."""


LAWS = Laws()
"""Every law by its name."""

HALF = ("bfloat16", "float16")
EVERY = ("float64", "float32", *HALF, "complex64", "complex128")


def law(
    *, of: tuple[str, ...] = (), dtypes: tuple[str, ...] | None = None
) -> Callable[[Callable[..., None]], Law]:
    """Enter a function of a subject and a dtype as the law of its name; its docstring says it."""

    def entered(function: Callable[..., None]) -> Law:
        says = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        made = Law(function.__name__, says, of, dtypes, function)
        LAWS[made.name] = made
        return made

    return entered
