"""Files that are whole or absent, and locks that end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def disk_failure(exc: BaseException) -> str:
    """Why the disk, full or broken, is the cause of an exception; "" when it is not."""
    if isinstance(exc, OSError):
        return os.strerror(exc.errno) if exc.errno in _ERRORS_OF_THE_DISK else ""
    if isinstance(exc, sqlite3.OperationalError):
        # Its extended codes, as of a failed write, have the general one in their last byte.
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        return str(exc) if code in _CODES_OF_THE_DISK else ""
    return ""


_ERRORS_OF_THE_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM),
)
_CODES_OF_THE_DISK = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path`` so that a reader, or a crash, sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock at ``path`` and hold it inside the ``with`` block."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold_lock(path: Path, timeout: float = 0.5) -> IO[str] | None:
    """Take the lock at ``path`` until the returned file is closed; None when another holds it.

    The holder's process id is the content, for :func:`lock_holder`. ``timeout`` is in seconds: a
    reader of the lock owns it for a moment, so one refusal says nothing.
    """
    file = path.open("a+")
    deadline = time.monotonic() + timeout
    while not _flock(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            file.close()
            return None
        time.sleep(0.02)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def lock_holder(path: Path) -> int | None:
    """Process id of the living holder of the lock at ``path``, or None."""
    try:
        with path.open() as file:
            return None if _flock(file, fcntl.LOCK_SH) else int(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # locked, and the id not written yet
        return None


def _flock(file: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
