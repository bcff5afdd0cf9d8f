"""`dvc repro` of several stages at a time: of those that do not depend on each other.

DVC runs one stage after another, but several of its processes may run at a time. A training of a small
network has one thread, so that two of them on two cores take little more than half of the time of one after
the other. POSIX.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

from pose.data.threads import cores
from pose.io.errors import UserError
from pose.params import Params

# What DVC says after every stage.
HINTS = (
    "To track the changes",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config",
    "Use `dvc push`",
    "Data and pipelines are up to date.",
)
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
KILLED_AT = 3  # so many times Ctrl-C end what does not end by itself
PIPE_GRACE = 1.0  # seconds for the last lines of a stage that has ended


def repro(targets: Sequence[str], jobs: int) -> None:
    """Bring stages, and all that they depend on, up to date, `jobs` of them at a time; all without targets.

    Lines of a stage begin with its name. After one that fails, those that run are waited for, and no other
    begins. Ctrl-C, SIGTERM and SIGHUP go to those that run, which are waited for; the third kills them. While
    another DVC holds the repository's lock, they wait for it, as `dvc --wait-for-lock`. UserError for unknown
    targets, and if a stage failed. If lines cannot be written, all end as by Ctrl-C: UserError or
    BrokenPipeError.
    """
    if line := remove_broken_lock(Path()):
        print(line)
    needs, started = _needs(targets), time.monotonic()
    todo, done, failed = list(needs), set[str](), list[str]()
    stages = _RunningStages(width=max(map(len, needs), default=0))
    stopped: BaseException | None = None
    with _signals(stages.events):
        while True:
            if not (failed or stopped):
                ready = [stage for stage in todo if needs[stage] <= done]
                for stage in ready[: jobs - len(stages.running)]:
                    todo.remove(stage)
                    stages.start(stage)
            if not stages.running:
                break
            event = stages.events.get()
            if isinstance(event, BaseException):
                stopped = stopped or event
                stages.interrupt()
            elif stages.end(event):
                failed.append(event)
            else:
                done.add(event)
    if stopped:
        raise stopped
    if failed:
        rest = f"; not begun: {', '.join(todo)}" if todo else ""
        raise UserError(f"{', '.join(failed)}: failed, see its lines above{rest}")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"up to date after {minutes} min {seconds} s: {', '.join(sorted(done))}")


def default_jobs(params: Params) -> int:
    """As many stages as there are cores for their processes and threads; one where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return 1
    processes = 1 if params.train.processes == "auto" else int(params.train.processes)
    return max(1, cores() // (processes * params.train.threads))


def _needs(targets: Sequence[str]) -> Mapping[str, set[str]]:
    """Which stages each stage depends on, by name."""
    from dvc.dvcfile import PROJECT_FILE
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):  # another DVC may be writing dvc.lock
            graph = get_active_graph(repo.index.graph)
            plan = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE]))
            return {stage.addressing: {one.addressing for one in graph.successors(stage)} for stage in plan}
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


class _RunningStages:
    """The processes of DVC that run, each in a process group of its own with what it starts.

    events: the name of a stage whose process has ended; an exception for all to end by.
    """

    def __init__(self, width: int) -> None:
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.events: SimpleQueue[str | BaseException] = SimpleQueue()  # handlers of signals may write to it
        self._width, self._interrupts = width, 0

    def start(self, stage: str) -> None:
        """Begin `dvc repro` of this stage alone."""
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
                env=_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            self.events.put(UserError(f"dvc: cannot be started ({error.strerror})"))
            return
        self.running[stage] = process
        show = threading.Thread(target=self._show, args=(stage, process), daemon=True)
        show.start()
        threading.Thread(target=self._wait, args=(stage, process, show), daemon=True).start()

    def end(self, stage: str) -> int:
        """The exit status of a process that has ended."""
        return self.running.pop(stage).wait()

    def interrupt(self) -> None:
        """Ctrl-C for all of them; SIGKILL from the third time on."""
        self._interrupts += 1
        number = signal.SIGINT if self._interrupts < KILLED_AT else signal.SIGKILL
        for process in self.running.values():
            with suppress(ProcessLookupError):  # it has ended in this moment
                os.killpg(process.pid, number)

    def _show(self, stage: str, process: subprocess.Popen[str]) -> None:
        """Print its lines. They are read to the end in any case: else the process would wait for that."""
        assert process.stdout
        broken = False
        for line in process.stdout:
            if broken or not line.strip() or line.startswith(HINTS):
                continue
            try:
                sys.stdout.write(f"{stage:{self._width}} | {line.rstrip()}\n")
                sys.stdout.flush()
            except BrokenPipeError as error:
                broken = True
                self.events.put(error)
            except OSError as error:  # a full disk, a closed terminal
                broken = True
                self.events.put(UserError(f"standard output: cannot be written to ({error.strerror})"))

    def _wait(self, stage: str, process: subprocess.Popen[str], show: threading.Thread) -> None:
        process.wait()
        show.join(PIPE_GRACE)  # what a stage leaves running in the background holds the pipe for as long
        self.events.put(stage)


def _environment() -> dict[str, str]:
    """Stages call `python`, which must be this one; their lines come through the pipe as they are written."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _signals(events: SimpleQueue[str | BaseException]) -> Iterator[None]:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed, are events.

    A process that ignores Ctrl-C itself, as one in the background of a script, still passes it on: its
    children inherit what is ignored, but no handlers.
    """
    ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}

    def note(number: int, _: object) -> None:
        if number not in ignored:
            events.put(KeyboardInterrupt())

    heard = [number for number in SIGNALS if number != signal.SIGHUP or number not in ignored]  # of nohup
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
