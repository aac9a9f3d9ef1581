"""Files that are either the old one or the new one, never half of each."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from jopt.base import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BUFFER = 2**17
"""Many small leaves share a call to the system; large ones go past the buffer."""

_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = _FLAGS | os.O_CREAT | os.O_EXCL
_THERE = _FLAGS | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WAITLESS = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe to read from it waits for a writer, unless one asks not to."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}

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
    errno.ESPIPE: "It is a pipe, a device or a socket; name a regular file.",
}
_READING = {
    errno.ENOENT: "Correct the path: nothing has been saved there.",
    errno.EACCES: "Ask for permission to read the file.",
    errno.EPERM: "Ask for permission to read the file.",
}


def replace(who: str, path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Put what `write` writes at `path`, or leave everything as it was.

    The bytes go to a temporary file in the same folder, are forced to the disk, and take the
    name in one step. A reader, or a machine that starts again, sees the old file or the new one.
    The temporary file is locked while it is written: a second writer is refused, and what a
    killed one has left is found by its name and taken away by the next.
    """
    with explained(who, path, "cannot be written; what stood there before is untouched"):
        name = text_of(who, path)
        if not os.path.basename(name):  # a slash at the end, which the next line would drop
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target = Path(os.path.realpath(name))  # through a link, to the file it stands for
        mode = _mode_of(target)
        owner = os.getpid()
        temporary, handle, lock = _locked(who, path, target, 0o666 if mode is None else 0o600)
        try:
            raw = _Raw(handle, "wb")
            with io.BufferedWriter(raw, BUFFER) as file:
                try:
                    write(file)
                    file.flush()
                except Exception as error:
                    if raw.failed in (None, error):
                        raise
                    raise raw.failed from error  # what wrote has put words of its own around it
                if mode is not None:
                    os.chmod(temporary, mode)
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.getpid() == owner:  # a forked child has nothing to take away
                with suppress(OSError):
                    os.unlink(temporary)  # while it is locked: later the name may be another's
            raise
        finally:
            with _GUARD:
                _SAVING.difference_update({handle, lock})
                if lock is not None:
                    os.close(lock)
    with explained(who, path, "is written, but may not outlast a loss of power"):
        _sync_folder(target.parent)


@contextmanager
def reading(who: str, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file at `path`, open for reading."""
    name = text_of(who, path)
    with (
        explained(who, path, "cannot be read", _READING),
        open(name, "rb", BUFFER, opener=lambda at, flags: os.open(at, flags | _WAITLESS)) as file,
    ):
        if not file.seekable():
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        yield file


def text_of(who: str, path: str | os.PathLike[str]) -> str:
    """The path as text, if it is one that a file can have."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        facts = {"expected": "a str or an os.PathLike", "found": type(path).__name__}
        raise CheckpointError(who, "this is no path", **facts) from None
    if "\0" in name:
        raise CheckpointError(who, "no path has a NUL character", found=repr(name))
    return name


def _mode_of(target: Path) -> int | None:
    """The permissions of the file that stands there; `None` if none does."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):  # the rename would put a file in its place
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
    return stat.S_IMODE(found.st_mode)


def _locked(
    who: str, path: str | os.PathLike[str], target: Path, mode: int
) -> tuple[Path, int, int | None]:
    """A new temporary file, open, and a second handle that holds its lock.

    Two, as closing a file may tell of an error: that has to come before the rename, and the end
    of the lock after it. Without a lock, for want of the system's, the file has a name that no
    other has. The umask applies to `mode`, as for any file.
    """
    temporary = target.parent / f".jopt-{_short(target.name)}.tmp"
    while fcntl is not None:
        with _GUARD:
            try:
                lock = _attempt(temporary, mode)
            except BlockingIOError:
                raise _busy(who, path) from None
            if lock is None:
                break
            if lock >= 0:
                handle = os.dup(lock)
                _SAVING.update({handle, lock})
                return temporary, handle, lock
    temporary = target.parent / f".jopt-{secrets.token_hex(8)}.tmp"
    with _GUARD:
        handle = os.open(temporary, _NEW, mode)
        _SAVING.add(handle)
    return temporary, handle, None


class _Raw(io.FileIO):
    """A file that remembers the system's error, as other libraries do not hand it on."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """As ever."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


_SAVING: set[int] = set()
"""The handles of files that are being written."""

_GUARD = threading.RLock()
"""No process is forked between the opening of a handle and its entry above."""


def _let_go() -> None:
    """Make a forked child's handles those of nothing: file and lock are its parent's.

    A lock is held for as long as one handle of it is open. To close them would not do: the
    file objects that own them write what they have buffered to whatever has the number then.
    """
    if _SAVING:
        nothing = os.open(os.devnull, os.O_RDWR)
        for handle in _SAVING:
            os.dup2(nothing, handle, inheritable=False)
        os.close(nothing)
    _GUARD.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_GUARD.acquire, after_in_parent=_GUARD.release, after_in_child=_let_go
    )


def _attempt(temporary: Path, mode: int) -> int | None:
    """A new file, open and locked; `-1` if another try will do, `None` if none will.

    **Raises:** `BlockingIOError` if another writer has the file.
    """
    try:
        handle, ours = os.open(temporary, _NEW, mode), True
    except FileExistsError:
        try:
            handle, ours = os.open(temporary, _THERE), False
        except FileNotFoundError:
            return -1  # whoever had it is done
        except OSError:
            return None  # a link, a folder, or another user's
    lock: int | None = -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(handle, temporary):
            if ours:
                lock = handle
            elif _is_leftover(handle):
                # Its writer is dead, or it would hold the lock. A new file in its place has
                # this umask's permissions, and no name but this one.
                os.unlink(temporary)
            else:
                lock = None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if ours:
            os.unlink(temporary)
        lock = None
    finally:
        if lock != handle:
            os.close(handle)
    return lock


def _short(name: str) -> str:
    # The name itself where the longest that disks allow (143 bytes at the least) leaves room.
    data = os.fsencode(name)
    return name if len(data) <= 128 else hashlib.sha256(data).hexdigest()


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file still has this name: its writer may have just renamed it away."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _is_leftover(handle: int) -> bool:
    """Whether a killed writer of this user left the file, as far as that shows."""
    found = os.fstat(handle)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _busy(who: str, path: str | os.PathLike[str]) -> CheckpointError:
    return CheckpointError(
        who,
        f"{os.fspath(path)}: another process is saving to this path",
        fix="Let one process save, or give each a path of its own. The file that stood there is "
        "untouched by this call.",
    )


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
def explained(
    who: str, path: str | os.PathLike[str], what: str, advice: Mapping[int, str] | None = None
) -> Iterator[None]:
    """The system's errors within, as ours: what could not be done, why, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        fix = {**_ADVICE, **(advice or {})}.get(error.errno or 0, "See the system's message above.")
        raise CheckpointError(who, f"{os.fspath(path)} {what}", found=reason, fix=fix) from error
