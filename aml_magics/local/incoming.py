"""Uploads on their way in: a stream becomes a file that is whole, on disk and only then in place.

All temporary files are in one folder of the home, which a starting daemon empties: what is left
of an upload that was cut short is never among the files that are served.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from uuid import uuid4

from starlette.concurrency import run_in_threadpool

from aml_magics.local.files import disk_failure
from aml_magics.local.wire import ArmError

if TYPE_CHECKING:
    from aml_magics.local.app import Local

T = TypeVar("T")
PIECE = 1 << 20  # bytes of an upload in memory
LOCKS = 64
ABANDONED_SECONDS = 7 * 86400.0  # how long blocks wait for their list, as on Azure


class WrongContent(Exception):
    """What arrived is not what was sent."""


class Incoming:
    """The folder of temporary files, and the locks under which a finished one takes its place."""

    def __init__(self, home: Path) -> None:
        self.folder, self.blocks = home / "incoming", home / "blocks"
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)

    def placing(self, path: Path) -> threading.Lock:
        """Of those who write to one path, one may look at what is there and change it."""
        return self._locks[hash(path) % LOCKS]

    def clean(self) -> None:
        """Remove blocks that no list came for; slow where there are many."""
        oldest = time.time() - ABANDONED_SECONDS
        for blocks in self.blocks.iterdir() if self.blocks.exists() else ():
            if blocks.stat().st_mtime < oldest:
                shutil.rmtree(blocks, ignore_errors=True)


async def receive(
    local: Local, chunks: AsyncIterable[bytes], place: Callable[[Path], T], md5: str = ""
) -> T:
    """Write a stream to a file; once that is on disk, let `place` move it to where it belongs.

    Memory stays at a piece, and no thread waits for the client.

    Args: md5: what the content must hash to, in hex; "" for any.
    Raises: WrongContent: it hashes to something else. Nothing is left of the file then, or of one
        whose stream breaks off.
    """
    temporary = local.incoming.folder / uuid4().hex
    digest = hashlib.md5(usedforsecurity=False) if md5 else None
    held: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= PIECE:
                await run_in_threadpool(_append, temporary, held, digest)
                held, size = [], 0
        return await run_in_threadpool(_finish, temporary, held, digest, md5, place)
    finally:
        temporary.unlink(missing_ok=True)


def join(local: Local, files: Iterable[Path], place: Callable[[Path], T]) -> T:
    """Write files one after the other into a new one, and let `place` move it."""
    temporary = local.incoming.folder / uuid4().hex
    try:
        with temporary.open("wb") as whole:
            for part in files:
                with part.open("rb") as file:
                    _copy(file, whole)
            settle(whole.fileno())
        return place(temporary)
    finally:
        temporary.unlink(missing_ok=True)


def move(temporary: Path, path: Path) -> None:
    """Put a finished file in its place, so that a crash of the machine does not undo it.

    Raises: ArmError 409: a folder has the name, or a file the name of a folder above.
    """
    try:
        _replace(temporary, path)
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as exc:
        raise ArmError(409, "BlobNameConflict", "A blob is in the way of this name.") from exc
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(temporary: Path, path: Path) -> None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.replace(path)
        except FileNotFoundError:  # the folder has just gone with its last blob
            if not temporary.exists():
                raise
        else:
            return


def _append(path: Path, held: list[bytes], digest: hashlib._Hash | None) -> None:
    with path.open("ab") as file:
        file.writelines(held)
    for chunk in held if digest else ():
        digest.update(chunk)  # type: ignore[union-attr]


def _finish(
    path: Path,
    held: list[bytes],
    digest: hashlib._Hash | None,
    md5: str,
    place: Callable[[Path], T],
) -> T:
    _append(path, held, digest)
    if digest and digest.hexdigest() != md5:
        raise WrongContent("The content does not have the MD5 that was sent with it.")
    with path.open("rb") as file:
        settle(file.fileno())
    return place(path)


def settle(file: int) -> None:
    """Give a file a time that no other has, which blobs are told apart by, and flush it."""
    stamp = time.time_ns()
    os.utime(file, ns=(stamp, stamp))
    os.fsync(file)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy inside the kernel where it can: blocks are most of what an upload writes twice."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    except (AttributeError, OSError) as exc:  # not on macOS, not in every file system
        if disk_failure(exc):
            raise
        shutil.copyfileobj(source, target, PIECE)
        target.flush()
