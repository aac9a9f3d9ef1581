"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jopt.base import JoptError


@dataclass(frozen=True)
class Finding:
    """A law that does not hold.

    **Attributes:** `law`, its name; `says`, the law in words; `dtype`, that of the parameters it
    was tried with; `problem`, what is wrong; `path`, `expected`, `found`: where, and what, or
    `None`.
    """

    law: str
    says: str
    dtype: str
    problem: str
    path: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.law} ({self.dtype}): {self.says}", f"  {self.problem}"]
        facts = (("at:      ", self.path), ("expected:", self.expected), ("found:   ", self.found))
        return "\n".join([*lines, *(f"    {name} {value}" for name, value in facts if value)])


@dataclass(frozen=True)
class Verdict:
    """What `jopt.testing.check` found; prints as lines.

    **Attributes:** `held`, the names of the laws that hold; `findings`, a `Finding` for each law
    and dtype that does not; `skipped`, why a law was not asked, by its name; `ok`, whether there
    is no finding.
    """

    held: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every law that was asked holds."""
        return not self.findings

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the laws that do not hold."""
        return tuple(dict.fromkeys(finding.law for finding in self.findings))

    def __str__(self) -> str:
        n, m = len(self.held), len(self.broken)
        many, be = ("", "s") if n == 1 else ("s", ""), "is" if m == 1 else "are"
        head = f"{n} law{many[0]} hold{many[1]}, {m} {be} broken"
        skipped = [f"not asked: {name}, {why}" for name, why in self.skipped]
        return "\n".join([head, *map(str, self.findings), *skipped])


class LawError(JoptError, AssertionError):
    """A law does not hold for an optimizer. **Attributes:** `report`, all that was found."""

    report: Verdict

    def __init__(self, transform: str, problem: str, **facts: Any) -> None:
        self.report = facts.pop("report", Verdict())
        super().__init__(transform, problem, **facts)
