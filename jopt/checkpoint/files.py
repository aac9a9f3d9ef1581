"""Files that are either the old one or the new one, never half of each."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jopt.base import CheckpointError

_ADVICE = {
    errno.ENOENT: "Make the folder first, or correct the path.",
    errno.ENOTDIR: "A part of the path is a file; correct the path.",
    errno.EISDIR: "The path is a folder; name a file.",
    errno.EACCES: "Ask for permission on the file and its folder, or choose another.",
    errno.EPERM: "Ask for permission on the file and its folder, or choose another.",
    errno.EROFS: "The disk is read-only; choose another.",
    errno.ENOSPC: "The disk is full: make room, then save again.",
    errno.EDQUOT: "Your quota is used up: make room, then save again.",
    errno.EFBIG: "The file is larger than the system allows: raise the limit (ulimit -f).",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def replace(who: str, path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Put what `write` writes at `path`, or leave everything as it was.

    The bytes go to a temporary file in the same folder, are forced to the disk, and take the
    name in one step. A reader, or a machine that starts again, sees the old file or the new one.
    """
    with _explained(who, path, "cannot be written; what stood there before is untouched"):
        target = Path(os.path.realpath(path))  # through a link, to the file it stands for
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = target.parent / f".jopt-{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
        handle = os.open(temporary, flags, 0o666)  # the umask applies, as to any file
        try:
            with open(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                os.chmod(temporary, target.stat().st_mode & 0o7777)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    with _explained(who, path, "is written, but may not outlast a loss of power"):
        _sync_folder(target.parent)


@contextmanager
def reading(who: str, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file at `path`, open for reading."""
    with _explained(who, path, "cannot be read"), open(path, "rb") as file:
        yield file


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks do not offer it
            raise
    finally:
        os.close(handle)


@contextmanager
def _explained(who: str, path: str | os.PathLike[str], what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        fix = _ADVICE.get(error.errno or 0, "See the system's message above.")
        raise CheckpointError(who, f"{os.fspath(path)} {what}", found=reason, fix=fix) from error
