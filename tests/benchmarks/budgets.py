"""What the programs may cost, and what is measured beside it.

A bound holds if the figure, rounded to the digits that the bound is written with, is at most it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.benchmarks.reports import markdown, number

Row = Mapping[str, Any]


class Bound(NamedTuple):
    """At most `limit`, and better `aim`, of a column; of what optax needs if `of` says so."""

    case: str
    column: str
    limit: float
    aim: float | None = None
    of: str | None = None
    target: str = "h100"
    by: str = "jopt"


BUDGETS = (
    Bound("adamw", "kernels", 150),
    Bound("adamw", "bytes", 28.0),
    Bound("adamw", "temporary", 0.0),
    Bound("clip+adamw", "kernels", 300, 230),
    Bound("clip+adamw", "bytes", 32.1),
    Bound("clip+adamw", "temporary", 0.0),
    Bound("clip+adamw B", "kernels", 1180, 900),
    Bound("clip+adamw B", "bytes", 32.1),
    Bound("clip+adamw B", "temporary", 0.0),
    Bound("clip+adamw B", "trace", 0.33, of="optax"),
    Bound("clip+adamw B", "compile", 0.7, of="optax"),
    Bound("accumulate", "bytes", 18.5),
    Bound("accumulate", "temporary", 0.0),
    Bound("skip+clip+adamw", "kernels", 320),
    Bound("skip+clip+adamw", "bytes", 32.1),
    Bound("skip+clip+adamw", "temporary", 0.0),
    Bound("monitor+adamw", "kernels", 150),
    Bound("monitor+adamw", "bytes", 28.3),
    Bound("monitor+adamw", "temporary", 0.1),
    Bound("monitor+clip+adamw", "kernels", 240),
    Bound("monitor+clip+adamw", "bytes", 32.3),
    Bound("monitor+clip+adamw", "temporary", 0.1),
    Bound("adafactor", "kernels", 960, 600),
    Bound("adafactor", "bytes", 28.1, 26),
    Bound("adafactor", "temporary", 0.1),
    # The moments with both norms, 24, and the step of the new moments, 16. A leaf that writes what
    # its norms are of has a kernel of its own for it.
    Bound("lamb", "kernels", 450),
    Bound("lamb", "bytes", 40.1),
    Bound("lamb", "temporary", 0.1),
    Bound("prodigy", "kernels", 300),
    # The estimate must have seen all of g, p, their start and the sums before the step reads g and
    # p once more: 20 and 28.
    Bound("prodigy", "bytes", 48.1),
    Bound("muon_adamw", "kernels", 340, 250),
    Bound("muon_adamw", "bytes", 145, 110),
    Bound("muon_adamw", "temporary", 3.6),
    Bound("muon_adamw", "compile", 0.45, of="optax"),
    Bound("lbfgs", "kernels", 1350, 900),
    Bound("lbfgs", "bytes", 260),
    Bound("lbfgs", "temporary", 0.5),
    Bound("adamw bfloat16", "state", 4.0),
    Bound("adamw bfloat16", "bytes", 20.0),  # 28, less 2 to read and 2 to write of either moment
    Bound("adamw bfloat16", "temporary", 0.0),
    Bound("adamw int8", "state", 2.04),
    # No bound on the traffic as XLA compiles it: the scale of a block must be known before its
    # first code is stored, XLA puts no use of a reduction into the kernel that reduces, and what
    # it makes of the two passes is its own affair from matrix to matrix (22.3 where it does well).
    Bound("adamw int8", "temporary", 0.5),  # no whole float32 moment, which would be 4
    Bound("adamw int8", "state", 2.04, by="jopt, pallas"),
    Bound("adamw int8", "bytes", 18, by="jopt, pallas"),
    Bound("adamw int8", "temporary", 0.0, by="jopt, pallas"),
    Bound("stochastic", "bytes", 22.0),  # 28, less 2 each to read p and g, and 2 to write p
    Bound("stochastic", "temporary", 0.0),
    # The narrow gradient in, the narrow parameter out: 28. And the narrow parameter in, 2: it is
    # compared with its master, so that one changed from outside is stepped from where it is.
    Bound("masters", "bytes", 30.0),
    Bound("masters", "temporary", 0.0),
)
"""The bounds on what is compiled."""

COUNTS = tuple(
    Bound(case, column, limit, target="cpu", by=by)
    for case, by, *limits in (
        # Seven of scalars are the price of "the number that was changed last rules": each number in
        # a state is chosen anew in a kernel of its own, and what was given is written.
        # XLA has no fusion of several outputs on the CPU: 25 leaves of three outputs are 75
        # kernels, and each reads what it needs anew: 40 bytes where 28 would do.
        ("adamw", "jopt", 86, 40.0, 0.0),
        # The gradients once more, for the norm, and the pieces that it is summed from.
        ("clip+adamw", "jopt", 105, 46.5, 1.2),
        # A quarter of 48, as adamw's with the sum and the gradient in its stead, and three quarters
        # of 12 for the sum alone. By `update` the updates are written.
        ("accumulate", "jopt", 50, 21.1, 0.1),
        ("accumulate", "jopt, update", 100, 39.8, 4.1),
        # What is kept if a number is not finite is chosen in kernels of its own here.
        ("skip+clip+adamw", "jopt", 183, 73.0, 8.8),
        # The update before its clipping is a temporary here, 4. Sixteen small
        # kernels come of the 1 by which kernels are shared on GPUs.
        ("adafactor", "jopt", 279, 45.0, 4.1),
        # Five products of matrices, each of them a call that nothing fuses with.
        ("muon_adamw", "jopt", 214, 245.0, 10.0),
        # 20 rows of history of 4 bytes read twice, a pair filed, and the joined vectors.
        ("lbfgs", "jopt", 395, 305.0, 12.0),
        ("adamw bfloat16", "jopt", 113, 40.2, 3.0),
        # The new moments are written to where two reductions, for the scales, and the codes read
        # them: one reduction over other bits took 57 here, and a GPU more.
        ("adamw int8", "jopt", 256, 72.0, 12.5),
        # Random bits are drawn in kernels of their own.
        ("stochastic", "jopt", 368, 32.2, 0.1),
        ("masters", "jopt", 111, 44.1, 0.0),
    )
    for column, limit in zip(("kernels", "bytes", "temporary"), limits, strict=True)
)
"""The bounds on the tree "small" on the CPU, with room for what another XLA fuses otherwise."""

TIMES = (
    Bound("adamw", "seconds", 1.0, of="optax", target="cpu"),
    Bound("clip+adamw", "seconds", 0.59, of="optax", target="cpu"),  # 1 / 1.7
    Bound("clip+adamw", "seconds", 1.0, of="torch", target="cpu"),
    Bound("dispatch", "seconds", 1.0, of="optax", target="cpu"),
)
"""The bounds on times: as a part of another library's."""


class Verdict(NamedTuple):
    """A bound, and the figure it is about."""

    bound: Bound
    found: float

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound."""
        return within(self.found, self.bound.limit)

    @property
    def aimed(self) -> bool | None:
        """Whether it is within what is tried for; `None` if that is no more than the bound."""
        return None if self.bound.aim is None else within(self.found, self.bound.aim)


def within(found: float, limit: float) -> bool:
    """Whether `found` is at most `limit`, in the digits that `limit` is written with."""
    digits = len(repr(limit).partition(".")[2])
    return round(found, digits) <= limit


def named(case: str, by: str) -> str:
    """A case and the way in which a library takes it: `accumulate, update`."""
    return case + by[len(library(by)) :]


def library(by: str) -> str:
    """The library in what a row is by: jopt of `jopt, update`."""
    return by.partition(",")[0]


def verdicts(bounds: Sequence[Bound], rows: Sequence[Row]) -> Iterator[Verdict]:
    """The bounds that the rows say something about."""
    cells = {(r["target"], r["case"], r["by"]): r for r in rows}
    for bound in bounds:
        ours = cells.get((bound.target, bound.case, bound.by))
        other = cells.get((bound.target, bound.case, bound.of)) if bound.of else None
        if ours is None or (bound.of and other is None):
            continue
        if any(bound.column not in r for r in (ours, other or ours)):
            continue
        found = ours[bound.column]
        yield Verdict(bound, found if other is None else found / other[bound.column])


def table(bounds: Sequence[Bound], rows: Sequence[Row]) -> str:
    """Measured beside budget, as Markdown."""
    lines = []
    for verdict in verdicts(bounds, rows):
        bound = verdict.bound
        said = "holds" if verdict.holds else "MISSED"
        said += ", not what was tried for" if verdict.holds and verdict.aimed is False else ""
        lines.append(
            (
                named(bound.case, bound.by),
                bound.column + (f" / {bound.of}'s" if bound.of else ""),
                number(verdict.found),
                f"{bound.limit:g}",
                "" if bound.aim is None else f"{bound.aim:g}",
                said,
            )
        )
    return markdown(("update", "figure", "measured", "at most", "tried for", ""), lines)
