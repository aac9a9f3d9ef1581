"""A bar on the terminal while a large file is written or read."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from jopt.base import CheckpointError

LARGE = 2**28
"""From so many bytes on it may take seconds, and a bar comes of itself."""


@contextmanager
def shown(
    who: str, verb: str, file: BinaryIO, total: Callable[[], int], wanted: bool | None
) -> Iterator[BinaryIO]:
    """The file, with a bar on stderr for the bytes of arrays that pass through it.

    `wanted` is `None` for a bar where it helps: rich is installed, stderr is a terminal and the
    file is large. Nothing is imported otherwise.
    """
    if wanted is None:
        wanted = _is_terminal() and _has_rich() and total() >= LARGE
    if not wanted:
        yield file
        return
    if not _has_rich():
        fix = "Install it, pip install 'jopt[cli]', or leave progress= out."
        raise CheckpointError(who, "progress=True shows a bar with rich, which is missing", fix=fix)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a file may be called a[/b]
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    size = total()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(verb, total=size)
        yield cast(BinaryIO, _Counted(file, lambda count: bar.advance(task, count)))
        bar.update(task, completed=size)  # what else stands in the file does not pass through


class _Counted:
    """A file that tells how many bytes go in or out of it."""

    def __init__(self, file: BinaryIO, tell: Any) -> None:
        self._file, self._tell = file, tell

    def write(self, data: Any) -> int:
        count = self._file.write(data)
        self._tell(count)
        return count

    def readinto(self, target: Any) -> int:
        count: int = self._file.readinto(target)  # type: ignore[attr-defined]
        self._tell(count)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None
