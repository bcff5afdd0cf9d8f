"""`dvc repro` of several stages at a time: of those that do not depend on each other.

DVC runs one stage after another, but several of its processes may run at a time. A training of a small
network has one thread, so that two of them on two cores take half of the time of one after the other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from pose.data.threads import cores
from pose.io.errors import UserError
from pose.params import Params

# What DVC says after every stage.
HINTS = ("To track the changes", "\tgit add", "To enable auto staging", "\tdvc config", "Use `dvc push`")


def repro(targets: Sequence[str], jobs: int) -> None:
    """Bring stages, and all that they depend on, up to date, `jobs` of them at a time; all without targets.

    Lines of a stage begin with its name. After one that fails, those that run are waited for, and no other
    begins. Ctrl-C and SIGTERM end those that run, which are waited for. UserError for unknown targets, and if
    a stage failed.
    """
    if line := remove_broken_lock(Path()):
        print(line)
    needs, started = _needs(targets), time.monotonic()
    stages, width = list(needs), max(map(len, needs), default=0)
    done, failed = set[str](), list[str]()
    running: dict[Future[int], str] = {}
    children = _Children()
    with _other_signals_as_ctrl_c(), ThreadPoolExecutor(jobs) as pool:
        try:
            while stages or running:
                ready = [] if failed else [stage for stage in stages if needs[stage] <= done]
                for stage in ready[: jobs - len(running)]:
                    stages.remove(stage)
                    running[pool.submit(children.run, stage, width)] = stage
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stage = running.pop(future)
                    if future.result():
                        failed.append(stage)
                    else:
                        done.add(stage)
        except KeyboardInterrupt:
            children.interrupt()
            raise
    if failed:
        rest = f"; {len(stages)} more were not begun" if stages else ""
        raise UserError(f"{', '.join(failed)}: failed, see its lines above{rest}")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"{len(done)} stages are up to date, after {minutes} min {seconds} s")


def default_jobs(params: Params) -> int:
    """As many stages as there are cores for their processes and threads; one where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return 1
    processes = 1 if params.train.processes == "auto" else int(params.train.processes)
    return max(1, cores() // (processes * params.train.threads))


def _needs(targets: Sequence[str]) -> Mapping[str, set[str]]:
    """Which stages each stage depends on, by name."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph
            collected = [repo.stage.collect(target, with_deps=True) for target in targets]
            wanted = {stage for some in collected for stage in some} if targets else set(graph)
            return {
                stage.addressing: {one.addressing for one in graph.successors(stage)}
                for stage in graph
                if stage in wanted
            }
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}") from None


def dvc_temp_folder(root: Path) -> Path:
    """Where a DVC repository has its locks."""
    return root / ".dvc" / "tmp"


def remove_broken_lock(root: Path) -> str:
    """Remove a broken lock file of the DVC repository; a line on what was done, or nothing.

    DVC truncates its file `rwlock` and then writes it. Killed in between, it leaves a file that is no JSON,
    with which no DVC starts, and has no command that repairs it. UserError if it is broken while another DVC
    runs.
    """
    folder = dvc_temp_folder(root)
    path = folder / "rwlock"
    if not path.exists() or _is_readable(path):
        return ""
    from dvc.lock import LockError, make_lock

    try:
        with (
            make_lock(str(folder / "lock"), str(folder)),
            make_lock(str(folder / "rwlock.lock"), str(folder)),
        ):
            if _is_readable(path):  # meanwhile
                return ""
            path.unlink()
    except LockError:
        raise UserError(f"{path}: found no JSON while another DVC runs here; wait for it or end it") from None
    return f"{path}: removed: a DVC that was killed had left it unreadable"


def _is_readable(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() <= {"read", "write"}


class _Children:
    """The processes of DVC that run, each in a process group of its own with what it starts."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._interrupted = False

    def run(self, stage: str, width: int) -> int:
        """`dvc repro` of one stage; its exit status."""
        words = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
        process = subprocess.Popen(
            words,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._processes[stage] = process
        if self._interrupted:
            self.interrupt()
        assert process.stdout
        for line in process.stdout:
            if line.strip() and not line.startswith(HINTS):
                sys.stdout.write(f"{stage:{width}} | {line.rstrip()}\n")
                sys.stdout.flush()
        return process.wait()

    def interrupt(self) -> None:
        """Ctrl-C for all of them."""
        self._interrupted = True
        for process in [*self._processes.values()]:
            if sys.platform == "win32":
                process.terminate()
            elif process.poll() is None:
                with suppress(ProcessLookupError):  # it has ended in this moment
                    os.killpg(process.pid, signal.SIGINT)


def _environment() -> dict[str, str]:
    """Stages call `python`, which must be this one; their lines come through the pipe as they are written."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _other_signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, are Ctrl-C here.

    A process that ignores Ctrl-C itself, as one in the background of a script, can still end its children.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGTERM: interrupt}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # of nohup
        handlers[signal.SIGHUP] = interrupt
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        handlers[signal.SIGINT] = lambda number, frame: None  # children inherit what is ignored, no functions
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
