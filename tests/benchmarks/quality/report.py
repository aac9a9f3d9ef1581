"""What the losses of several seeds say: is a variant within the spread of float32?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.reports import markdown, number

BASE = "float32"
HEADS = (
    "stored as",
    "state B/param",
    "params B/param",
    "train loss",
    "minus float32's",
    "held-out loss",
    "minus float32's",
    "within its spread",
    "diverged",
)


def summary(row: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, spread and verdict of a row, beside float32's with the same seeds.

    Within the spread: the mean over the seeds lies between the least and the greatest loss that
    float32 has for a seed. The difference to the same seed's float32 run says more, for it is
    free of what first parameters and batches do.
    """
    found: dict[str, Any] = {}
    for kind in ("train", "held_out"):
        losses, others = (np.asarray(r[kind]) for r in (row, base))
        gaps = losses - others
        found[kind] = {
            "mean": losses.mean(),
            "deviation": deviation(losses),
            "least": losses.min(),
            "most": losses.max(),
            "gap": gaps.mean(),
            "gap_deviation": deviation(gaps),
            "verdict": verdict(losses.mean(), others),
        }
    return found


def deviation(x: Any) -> float:
    """The sample's standard deviation; 0 for a sample of one."""
    return float(np.std(x, ddof=1)) if len(x) > 1 else 0.0


def verdict(mean: float, others: Any) -> str:
    """Where a mean lies beside float32's losses."""
    if not np.isfinite(mean):
        return "no: not finite"
    if mean > others.max():
        return "no: above"
    return "yes" if mean >= others.min() else "no: below, which is better"


def based(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """float32's row, by optimizer."""
    return {r["optimizer"]: r for r in rows if r["variant"] == BASE}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a variant: means ± standard deviations, differences to the same seed's float32."""
    bases, lines = based(rows), []
    for row in rows:
        of = summary(row, bases[row["optimizer"]])
        train, held, is_base = of["train"], of["held_out"], row["variant"] == BASE
        lines.append(
            (
                row["variant"],
                number(round(row["state_bytes"], 2)),
                number(round(row["param_bytes"], 2)),
                f"{train['mean']:.5g} ± {train['deviation']:.2g}",
                "" if is_base else gap(train),
                f"{held['mean']:.5g} ± {held['deviation']:.2g}",
                "" if is_base else gap(held),
                "" if is_base else both(train["verdict"], held["verdict"]),
                str(row["diverged"]),
            )
        )
    return markdown(HEADS, lines)


def gap(of: Mapping[str, Any]) -> str:
    """The difference to float32."""
    return f"{of['gap']:+.2g} ± {of['gap_deviation']:.2g}"


def both(train: str, held_out: str) -> str:
    """One word where they agree."""
    return held_out if train == held_out else f"{held_out} (train: {train})"


def each_seed(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    """The final losses of every seed."""
    seeds = [f"seed {s}" for s in rows[0]["seeds"]]
    return markdown(
        ("stored as", *seeds), [(r["variant"], *(f"{x:.5g}" for x in r[kind])) for r in rows]
    )
