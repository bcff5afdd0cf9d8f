"""Exclusive locks on files, which the kernel releases when a process ends, however it ends. POSIX."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

POLL = 0.05  # seconds

_held: set[int] = set()  # file descriptors


class LockedError(TimeoutError):
    """holder: id of the process that holds the lock, or `unknown`."""

    def __init__(self, path: str | Path, holder: str):
        super().__init__(f"{path} is locked by process {holder}")
        self.holder = holder


class FileLock:
    """Held by one process until `release` or the end of a `with` block.

    A process that is forked meanwhile, a loader worker perhaps, does not hold it too, so that the lock ends
    with the process that took it. The file stays, and holds the process's id: removing it could remove one
    that another process has just locked.
    """

    def __init__(self, path: str | Path, *, seconds: float = 0.0):
        """Take the lock, waiting at most so many seconds.

        LockedError if it is taken; OSError if the file cannot be opened.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _held.add(self._file)
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
                    self.release()
                    raise LockedError(path, holder or "unknown") from None
                time.sleep(POLL)
        with suppress(OSError):  # a full disk: the number is for others to read
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        if self._file in _held:
            _held.remove(self._file)
            os.close(self._file)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _close_in_child() -> None:
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
