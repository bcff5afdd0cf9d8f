"""Keeping processes apart.

One writer per folder, and no trainer left behind when `make` or `dvc` is killed. POSIX.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from pose.io.errors import UserError

PARENTS = {"make", "gmake", "dvc"}


class FolderLock:
    """Held by the one process that may write into a folder, until `release` or the end of a `with` block.

    The kernel lets go of it when the process ends, however it ends, so that a lock is never stale. It stands
    in `folder/.lock`, which stays there: the folder should not be one whose content DVC hashes.
    """

    def __init__(self, folder: str | Path):
        """Take the lock, making the folder if need be; UserError, naming the folder and the holder, if it is taken."""
        self.path = Path(folder) / ".lock"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] | None = self.path.open("a+")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self.release()
            raise UserError(
                f"{folder}: process {holder} is writing there already; wait for it or end it"
            ) from None
        with suppress(OSError):  # a full disk: it only tells others who we are
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others write. The file is left.

        Removing it could take away one that another process has just locked.
        """
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def end_with_parent(*, direct: bool = False, poll: float = 0.5, grace: float = 20.0) -> tuple[int, ...]:
    """From now on, end this process soon after a `make` or `dvc` that it runs under has ended.

    Returns their ids.

    SIGKILL gives them no chance to end what they started, and the kernel's parent-death signal would be that
    of the shell in between, so a thread looks for them every `poll` seconds. It asks by SIGTERM, and insists
    by SIGKILL after `grace` seconds. direct: the process that started this one is watched too, whatever it
    is.
    """
    watched = _parents() + ([psutil.Process(os.getppid())] if direct else [])
    if watched:
        threading.Thread(
            target=_watch, args=(watched, poll, grace), name="end_with_parent", daemon=True
        ).start()
    return tuple(process.pid for process in watched)


def _parents() -> list[psutil.Process]:
    parents = []
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()
        except psutil.Error:  # gone meanwhile, or another user's
            continue
        # `make ...`, `python .../bin/dvc ...` or `python -m dvc ...`
        at = next((i for i, word in enumerate(words[:3]) if Path(word).name in PARENTS), None)
        if at is None:
            continue
        if words[at + 1 : at + 3] == ["queue", "start"]:
            break  # it leaves its workers behind on purpose, and so does whatever it was started from
        parents.append(process)
    return parents


def _watch(processes: list[psutil.Process], poll: float, grace: float) -> None:
    while all(_is_alive(process) for process in processes):
        time.sleep(poll)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(process: psutil.Process) -> bool:
    """Whether that very process runs: neither another with its number, nor dead and not yet waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
