"""The folder of a run: which checkpoints it holds, in which order, and which may go.

Each checkpoint is a file of its own, named by its step. Beside them an index has the order in
which they were saved, and their metrics. A file is whole as soon as it has its name, so what
the folder has decides what there is, and the index may be behind it: files that it lacks are
the newest, and entries without a file are gone.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jopt.base import CheckpointError, ConfigError, DamagedError, check_kind, is_traced, plain
from jopt.checkpoint import files

LOGGER = logging.getLogger("jopt")

INDEX = "checkpoints.json"
NAMED = re.compile(r"step_(\d{8,})\.jopt")


@dataclass(frozen=True)
class Kept:
    """A checkpoint in a folder.

    **Attributes:** `step`; `path`, its file; `metric`, what it was saved with, or `None`.
    """

    step: int
    path: Path
    metric: float | None = None


def path_of(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step_{step:08d}.jopt"


def listed(who: str, folder: Path) -> list[Kept]:
    """The checkpoints in a folder, the last one saved being the last."""
    with files.explained(who, folder, "cannot be read"):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
    found = {int(match[1]) for match in map(NAMED.fullmatch, names) if match}
    there = sorted(step for step in found if path_of(folder, step).name in names)
    metrics = _metrics(folder)
    order = [step for step in metrics if step in there]
    order += [step for step in there if step not in metrics]
    return [Kept(step, path_of(folder, step), metrics.get(step)) for step in order]


def write_index(who: str, folder: Path, entries: Sequence[Kept]) -> None:
    """Say what the folder holds, in one step."""
    told = [{"step": entry.step, "metric": entry.metric} for entry in entries]
    text = json.dumps({"version": 1, "checkpoints": told}, indent=1)
    files.replace(who, folder / INDEX, lambda file: file.write(f"{text}\n".encode()))


def _metrics(folder: Path) -> dict[int, float | None]:
    """The metric of every step in the index, in its order."""
    try:
        read = json.loads((folder / INDEX).read_bytes())
        pairs = [(entry["step"], entry["metric"]) for entry in read["checkpoints"]]
        for step, metric in pairs:
            if type(step) is not int or not isinstance(metric, float | int | None):
                raise ValueError(f"no step and metric: {step!r}, {metric!r}")
        return {step: finite(metric) for step, metric in pairs}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        told = "%s cannot be read (%s): the checkpoints go by their steps, without metrics"
        LOGGER.warning(told, folder / INDEX, error)
        return {}


def metric_of(who: str, metric: object) -> float | None:
    """What a user gives for a metric, as `finite` has it."""
    check_kind(who, "metric", "float | None", metric)
    if is_traced(metric):
        raise ConfigError(
            who, "the metric is being traced and has no value", fix="Call it outside of jit."
        )
    value = plain(metric)
    return None if value is None else finite(float(value))


def finite(metric: float | None) -> float | None:
    """A number that can be compared: NaN and infinity say nothing of how good a run is."""
    return metric if metric is not None and math.isfinite(metric) else None


def best_first(entries: Sequence[Kept], mode: Literal["min", "max"]) -> list[Kept]:
    """Those with a metric; of equals the one that was saved first, as nothing was gained since."""
    sign = 1 if mode == "min" else -1
    known = [(sign * e.metric, i, e) for i, e in enumerate(entries) if e.metric is not None]
    return [entry for _, _, entry in sorted(known, key=lambda one: one[:2])]


def superfluous(
    entries: Sequence[Kept],
    keep_last: int | None,
    keep_best: int | None,
    mode: Literal["min", "max"],
    damaged: Collection[Path] = (),
) -> list[Kept]:
    """Those that go. A damaged one takes no other's place; where all are kept, it is, too."""
    if keep_last is None and keep_best is None:
        return []
    good = [entry for entry in entries if entry.path not in damaged]
    stay = good[-(keep_last or 1) :] + best_first(good, mode)[: keep_best or 0]
    return [entry for entry in entries if entry not in stay]


def remove(who: str, entries: Sequence[Kept]) -> None:
    """Take the files away; what is gone already is."""
    for entry in entries:
        with (
            files.explained(who, entry.path, "cannot be removed"),
            suppress(FileNotFoundError),
        ):
            os.unlink(entry.path)


def is_lost(error: CheckpointError) -> bool:
    """Whether the file is the trouble, not what is wanted of it."""
    cause = error.__cause__
    lost = isinstance(cause, OSError) and cause.errno in (errno.EIO, errno.ENOENT)
    return isinstance(error, DamagedError) or lost
