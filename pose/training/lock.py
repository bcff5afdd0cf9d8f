"""One writer per folder, and no trainer left behind when `make`, `dvc` or `pose` is killed. POSIX."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from pose.io.errors import UserError
from pose.io.file_lock import FileLock, LockedError

PARENTS = {"make", "gmake", "dvc", "pose", "pose.cli"}  # the last one of `python -m`


def lock_folder(folder: str | Path) -> FileLock:
    """Held by the one process that may write into a folder, which is made if need be.

    UserError, naming folder and holder, if it is taken.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return FileLock(Path(folder) / ".lock")
    except LockedError as error:
        found = f"process {error.holder} is writing there already"
        raise UserError(f"{folder}: {found}; wait for it or end it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror})") from None


def end_with_parent(*, direct: bool = False, poll: float = 0.5, grace: float = 20.0) -> tuple[int, ...]:
    """End this process soon after the end of any `make`, `dvc` or `pose` that it runs under.

    Returns their ids. SIGKILL gives them no chance to end what they started, and the kernel's parent-death
    signal would be that of the shell in between. So a thread looks for them every `poll` seconds; it sends
    this process SIGTERM and, `grace` seconds later, SIGKILL. direct: the process that started this one counts
    too, whatever it is. It sends SIGTERM itself if it watches as well, and a second one would interrupt the
    saving of a checkpoint: so the others then count only `grace` seconds after their end.
    """
    launcher, parents = [psutil.Process(os.getppid())] if direct else [], _parents()
    for processes, delay in ((launcher, 0.0), (parents, grace if direct else 0.0)):
        if processes:
            args = processes, poll, delay, grace
            threading.Thread(target=_end_with, args=args, name="end_with_parent", daemon=True).start()
    return tuple(process.pid for process in [*parents, *launcher])


def _parents() -> list[psutil.Process]:
    parents: list[psutil.Process] = []
    above, process = list[psutil.Process](), psutil.Process()
    with suppress(psutil.NoSuchProcess):  # one that ended meanwhile: nothing is above it any more
        while parent := process.parent():
            above.append(process := parent)
    for process in above:
        try:
            words = process.cmdline()
        except psutil.Error:  # ended meanwhile, or another user's
            continue
        # `make ...`, `python .../bin/dvc ...` or `python -m dvc ...`
        at = next((i for i, word in enumerate(words[:3]) if Path(word).name in PARENTS), None)
        if at is None:
            continue
        if words[at + 1 : at + 3] == ["queue", "start"]:
            break  # its workers are to outlive it, and whatever started it
        parents.append(process)
    return parents


def _end_with(parents: list[psutil.Process], poll: float, delay: float, grace: float) -> None:
    while all(_is_alive(process) for process in parents):
        time.sleep(poll)
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(process: psutil.Process) -> bool:
    """Whether that very process runs: not another with its id, not one that ended and was not waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
