"""The checkpoints of one run: saved as it goes, the old ones removed, the newest good one found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import jax

from jopt.base import (
    CheckpointError,
    check_kind,
    checked,
    whole_number,
)
from jopt.checkpoint import files
from jopt.checkpoint.config import describe
from jopt.checkpoint.fitting import Keep, Rename
from jopt.checkpoint.kept import (
    LOGGER,
    Kept,
    best_first,
    is_lost,
    listed,
    metric_of,
    path_of,
    remove,
    superfluous,
    write_index,
)
from jopt.checkpoint.state_dict import state_dict
from jopt.checkpoint.store import load, save
from jopt.core import Transform
from jopt.core.tree import Tree

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


@dataclass(frozen=True)
class Resumed:
    """What `Checkpoints.resume` found.

    **Attributes:** `tree`; `step` and `path`, the checkpoint it is of, both `None` where there was
    none and `tree` is `like`; `skipped`, the error of each newer checkpoint, by its path.
    """

    tree: Tree
    step: int | None = None
    path: Path | None = None
    skipped: Mapping[Path, CheckpointError] = field(default_factory=dict)


class Checkpoints:
    """A folder with the checkpoints of one run.

    Each is a file that `jopt.save` writes and `jopt.load` reads, `step_00000300.jopt`. Killed at
    any moment, the folder has every checkpoint whose save had ended, each of them whole.

    **Arguments:**

    - `folder`: where they are; it is made by the first save.
    - `keep_last` ≥ 1: so many of those saved last stay. Without it all do; with `keep_best` alone,
      the last one.
    - `keep_best` ≥ 1: so many of those with the best metric stay as well. Of equals, the one that
      was saved first. NaN and infinity are no metric.
    - `every` ≥ 1, default 1: `save` does nothing at steps that this does not divide.
    - `mode`, default `"min"`: whether less (`"min"`) or more (`"max"`) of the metric is better.
    - `tx`: the transform, as for `jopt.save` and `jopt.load`.
    - `background`, default `True`: `save` returns as soon as it has a copy of the tree on the host,
      and a thread writes it: what was saved may be donated. One at a time: a save waits for the
      one before. If `False`, `save` returns when the file is on the disk, and copies nothing.

    A save in the background that fails is told by the logger `jopt` at once, and raised by the
    next call of `save`, `wait`, `resume` or `close`. Python ends only when a save that has begun
    is done.

    One process at a time saves in a folder. A run of several processes takes orbax's
    `CheckpointManager` with `jopt.interop.orbax.Save`.

    **Raises:** `ConfigError` for an argument of another kind or range.

    >>> import tempfile, jax.numpy as jnp, jopt
    >>> folder = tempfile.TemporaryDirectory()
    >>> with jopt.Checkpoints(folder.name, keep_last=1, keep_best=1, every=10) as checkpoints:
    ...     for step, loss in [(10, 0.5), (15, 0.1), (20, 0.7), (30, 0.6)]:
    ...         saved = checkpoints.save(step, {"w": jnp.ones(2), "step": step}, metric=loss)
    >>> [kept.step for kept in checkpoints.entries], checkpoints.best.metric
    ([10, 30], 0.5)
    >>> checkpoints.resume({"w": jnp.zeros(2), "step": 0}).tree["step"]
    30
    >>> folder.cleanup()
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep_last: int | None = None,
        keep_best: int | None = None,
        every: int = 1,
        mode: Literal["min", "max"] = "min",
        tx: Transform | None = None,
        background: bool = True,
    ) -> None:
        who = "Checkpoints"
        check_kind(who, "folder", "str | os.PathLike[str]", folder)
        check_kind(who, "mode", "Literal['min', 'max']", mode)
        check_kind(who, "background", "bool", background)
        describe(who, tx)
        self.folder: Path = Path(files.text_of(who, folder))
        self.keep_last: int | None = _number(who, "keep_last", keep_last)
        self.keep_best: int | None = _number(who, "keep_best", keep_best)
        self.every: int = whole_number(who, "every", every, 1)
        self.mode, self.background = mode, background
        self.tx: Transform | None = tx
        self._damaged: set[Path] = set()
        self._writer: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def __repr__(self) -> str:
        given = {"keep_last": self.keep_last, "keep_best": self.keep_best}
        told = [f"{name}={value}" for name, value in given.items() if value is not None]
        told += [f"every={self.every}"] if self.every > 1 else []
        return f"jopt.Checkpoints({', '.join([repr(str(self.folder)), *told])})"

    @property
    def entries(self) -> tuple[Kept, ...]:
        """What the folder holds, in the order in which it was saved, the newest last."""
        return tuple(listed("Checkpoints", self.folder))

    @property
    def newest(self) -> Kept | None:
        """The one saved last."""
        return next(reversed(self.entries), None)

    @property
    def best(self) -> Kept | None:
        """The one with the best metric."""
        return next(iter(best_first(self.entries, self.mode)), None)

    @checked(itself=("self", "step", "metric"))
    def save(
        self, step: int, tree: Tree, *, metric: float | None = None, force: bool = False
    ) -> bool:
        """Save a tree under this step, if it is one of the steps to save at.

        **Arguments:**

        - `step` ≥ 0. What the folder has of this step is replaced.
        - `tree`: as for `jopt.save`.
        - `metric`: a number that says how good it is, for `keep_best`.
        - `force`: save at this step whatever `every` says, for the last step or before a stop.

        **Returns:** whether it saves.

        **Raises:** the error of an earlier save in the background, before it does anything, so that
        the call may be repeated; `CheckpointError` as `jopt.save`, and in a run of several
        processes.
        """
        who = "Checkpoints.save"
        step, value = whole_number(who, "step", step, 0), metric_of(who, metric)
        if step % self.every and not force:
            if self._pending is not None and self._pending.done():
                self.wait()
            return False
        self.wait()
        if jax.process_count() > 1:
            raise CheckpointError(
                who,
                "several processes share the run, and files are one process's",
                expected="one process",
                found=f"{jax.process_count()} processes",
                fix="Take orbax.checkpoint.CheckpointManager with jopt.interop.orbax.Save: each "
                "process writes what it holds.",
            )
        if not self.background:
            self._write(step, tree, value, None)
            return True
        copied = state_dict(tree)
        if self._writer is None:
            from concurrent.futures import ThreadPoolExecutor  # not at every import of jopt

            self._writer = ThreadPoolExecutor(1, "jopt-checkpoints")
        self._pending = self._writer.submit(self._write, step, copied, value, False)
        self._pending.add_done_callback(lambda done: _tell(step, done))
        return True

    @checked(itself=("self",))
    def resume(
        self,
        like: Tree = None,
        *,
        rename: Rename = None,
        keep: Keep = None,
        cast: bool = False,
    ) -> Resumed:
        """The newest checkpoint that is not damaged, every byte of it verified.

        Damaged ones are skipped, and the logger `jopt` says which and why. They count for nothing
        from then on, and go with the next save if the folder's old ones do. Where the folder has
        none yet, the result's `tree` is `like`.

        **Arguments:** `like`, `rename`, `keep`, `cast`: as for `jopt.load`.

        **Raises:** `CheckpointError` if all are damaged, so that nobody begins anew unawares; and
        as `jopt.load` for what is not damaged but does not fit `like` or `tx`.
        """
        self.wait()
        who, skipped = "Checkpoints.resume", {}
        entries = listed(who, self.folder)
        for kept in reversed(entries):
            try:
                tree = load(kept.path, like, tx=self.tx, rename=rename, keep=keep, cast=cast)
            except CheckpointError as error:
                if not is_lost(error):
                    raise
                LOGGER.warning("Checkpoints.resume skips %s: %s", kept.path, error.problem)
                skipped[kept.path] = error
                continue
            finally:
                self._damaged.update(skipped)
            return Resumed(tree, kept.step, kept.path, skipped)
        if entries:
            raise CheckpointError(
                who,
                f"no checkpoint in {self.folder} can be read",
                found="; ".join(f"{path.name}: {e.problem}" for path, e in skipped.items()),
                fix="To begin anew, name another folder or move this one away.",
            )
        return Resumed(like)

    def wait(self) -> None:
        """Return when what was saved is on the disk; raises the error of a save that failed."""
        pending = self._pending
        if pending is not None:
            try:
                pending.result()
            finally:
                if pending.done():
                    self._pending = None

    def close(self) -> None:
        """Wait, and let the thread go. A later `save` begins another."""
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"The checkpoint before it was not saved: {failed}")

    def _write(self, step: int, tree: Tree, metric: float | None, progress: bool | None) -> None:
        """Write the file, then the index, then take away: a kill between leaves more, not less."""
        who, path = "Checkpoints.save", path_of(self.folder, step)
        with files.explained(who, self.folder, "cannot be made"):
            os.makedirs(self.folder, exist_ok=True)
        save(path, tree, tx=self.tx, progress=progress)
        self._damaged.discard(path)
        entries = [entry for entry in listed(who, self.folder) if entry.step != step]
        entries.append(Kept(step, path, metric))
        write_index(who, self.folder, entries)
        going = superfluous(entries, self.keep_last, self.keep_best, self.mode, self._damaged)
        remove(who, going)


def _number(who: str, name: str, value: int | None) -> int | None:
    return None if value is None else whole_number(who, name, value, 1, "checkpoints")


def _tell(step: int, done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        LOGGER.error("the checkpoint of step %s was not saved: %s", step, error)
