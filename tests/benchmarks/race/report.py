"""The tables of the docs, from the results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.race.entrants import ENTRANTS
from tests.benchmarks.race.statistics import (
    Gap,
    Result,
    apart,
    baseline,
    gap,
    interval,
    results,
    steps_to,
)
from tests.benchmarks.race.store import Store
from tests.benchmarks.reports import markdown

HEADS = (
    "entrant",
    "held-out loss",
    "minus AdamW's",
    "so it is",
    "steps to AdamW's",
    "ms a step",
    "state B/param",
    "rate",
    "decay",
)
PAGE = Path(__file__).parents[3] / "docs" / "race.md"


def between(pair: tuple[float, float], digits: int = 3) -> str:
    """An interval."""
    return f"[{pair[0]:.{digits}g}, {pair[1]:.{digits}g}]"


def percent(of: Gap) -> str:
    """A difference as a share of AdamW's loss, with its interval."""
    low, high = (100 * x / of.base for x in of.interval)
    return f"{100 * of.mean / of.base:+.1f} % [{low:+.1f}, {high:+.1f}]"


def line(of: Result, base: Result, store: Store) -> tuple[str, ...]:
    """Of the table of a task."""
    own, steps = of.name == base.name, store.task.steps
    difference, reached = gap(of, base), steps_to(of, base.order, steps)
    finite = of.finite
    return (
        f"**{of.name}**" if own else of.name,
        f"{of.order:.4g} {between(interval(of.finals))}" if finite else "not finite",
        percent(difference) if finite and not own else "",
        "the baseline" if own else difference.verdict,
        "never" if reached is None else str(reached),
        f"{1e3 * of.seconds:.3g}",
        f"{store.facts[of.name]['state_bytes']:.3g}",
        f"{of.rate:.2g}{f' ({of.edge} end)' if of.edge else ''}",
        f"{of.decay:.1g}",
    )


def table(store: Store) -> str:
    """All entrants of a task, the least held-out loss first."""
    found, name = results(store), baseline(store)
    if name is None or name not in found:
        return "The baseline has not been run."
    return markdown(HEADS, [line(of, found[name], store) for of in found.values()])


def missing(store: Store) -> str:
    """Which entrants have been run on the task and which have not."""
    absent = [name for name in ENTRANTS if name not in results(store)]
    told = f"{len(ENTRANTS) - len(absent)} of {len(ENTRANTS)} entrants have been run"
    return f"{told}." if not absent else f"**Incomplete**: {told}; missing: {', '.join(absent)}."


def controls(store: Store) -> str:
    """How far the controls' curves lie from those that they should be."""
    found = results(store)
    told = []
    for name, entrant in ENTRANTS.items():
        if (of := found.get(name)) and (original := found.get(entrant.control_of or "")):
            most, last = apart(of, original)
            told.append(f"{name}: {most:.1g} along the way, {last:.1g} at the end")
    return f"Controls, the largest relative difference of a seed: {'; '.join(told)}." * bool(told)


def size(store: Store) -> str:
    """The race on a task in a line."""
    task = store.task
    return (
        f"{task.parameters():,} numbers, {task.steps} steps; {task.trials} trials with "
        f"{len(task.tuning_seeds)} seed{'s' * (len(task.tuning_seeds) > 1)} each, "
        f"{len(task.seeds)} reported seeds; {task.unit}."
    )


def tables(store: Store) -> str:
    """All of a task."""
    parts = (size(store), missing(store), table(store), controls(store))
    return "\n\n".join(part for part in parts if part)


def picture(store: Store) -> str:
    """The mark of its picture, where there is one."""
    if not results(store):
        return ""
    told = "How far each entrant ends from AdamW, and the held-out loss along the way"
    return f"\n\n![{told}](_static/race/{store.task.name}.png)"


def per_cent(value: float) -> str:
    """With its sign and three digits, as short as can be: a phone has room for seven columns."""
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.1f}"


def overview(stores: Iterable[Store]) -> str:
    """An entrant a line, a task a column: the per cent beside AdamW's, bold where it is certain."""
    cells: dict[str, dict[str, str]] = {name: {} for name in ENTRANTS}
    heads = []
    for store in stores:
        found, name = results(store), baseline(store)
        if name is None or name not in found:
            continue
        heads.append(store.task.name)
        for of in found.values():
            difference = gap(of, found[name])
            text = per_cent(100 * difference.mean / difference.base)
            if not of.finite:
                text = "diverged"
            elif of.name == name:
                text = "base"
            elif difference.verdict != "uncertain":
                text = f"**{text}**"
            cells[of.name][store.task.name] = text
    rows = [(name, *(of.get(head, "") for head in heads)) for name, of in cells.items()]
    return markdown(("entrant", *heads), rows)


def spaces() -> str:
    """The published search space of each entrant."""
    rows = []
    for name, entrant in ENTRANTS.items():
        rate, decay = (f"{low:.0e} to {high:.1e}" for low, high in (entrant.rates, entrant.decays))
        tuned = "as " + entrant.control_of if entrant.control_of else rate
        rows.append((name, tuned, "" if entrant.control_of else decay, entrant.note))
    return markdown(("entrant", "learning rate", "decay", "with"), rows)


def sections(stores: Iterable[Store]) -> dict[str, str]:
    """What the page shows between its marks, by their names."""
    every = list(stores)
    found = {store.task.name: tables(store) + picture(store) for store in every}
    return {"spaces": spaces(), "overview": overview(every), **found}


def filled(text: str, shown: dict[str, str]) -> str:
    """The page with the tables of now between `<!-- name -->` and `<!-- end -->`."""

    def put(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n\n{shown[found[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", put, text, flags=re.DOTALL)
