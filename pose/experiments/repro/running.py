"""Processes of DVC that run at a time, their lines, and the signals that end them. POSIX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

from pose.io.errors import UserError

# What DVC says after every stage.
HINTS = (
    "To track the changes",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config",
    "Use `dvc push`",
    "Data and pipelines are up to date.",
)
REPEATED = signal.SIGINT, signal.SIGTERM  # each further one is passed on too
SIGNALS = *REPEATED, signal.SIGHUP
KILLED_AT = 3  # so many signals end what does not end by itself
PIPE_GRACE = 1.0  # seconds for the last lines of a stage that has ended

# The stage whose process has ended; the number of a signal; why the lines of a stage cannot be shown.
Event = str | signal.Signals | Exception


class RunningStages:
    """The processes of DVC that run, each in a process group of its own with what it starts.

    width: of the stages' names, before their lines. stopped: what ends them all, once there is something.
    """

    def __init__(self, width: int) -> None:
        self.stopped: BaseException | None = None
        self._events: SimpleQueue[Event] = SimpleQueue()  # which handlers of signals may write to
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._width, self._signals = width, 0

    def __len__(self) -> int:
        return len(self._running)

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
            self._stop(UserError(f"dvc: cannot be started ({error.strerror})"))
            return
        self._running[stage] = process
        show = threading.Thread(target=self._show, args=(stage, process), daemon=True)
        show.start()
        threading.Thread(target=self._wait, args=(stage, process, show), daemon=True).start()

    def next_end(self) -> tuple[str, int]:
        """Wait for a process to end: its stage and exit status. Sees to all else that happens meanwhile."""
        while not isinstance(event := self._events.get(), str):
            if isinstance(event, Exception):
                self._stop(event)
            elif self.stopped is None or event in REPEATED:
                self._stop(KeyboardInterrupt())
        return event, self._running.pop(event).wait()

    @contextmanager
    def hear_signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed, are for the stages.

        A process that ignores Ctrl-C itself, as one in the background of a script, still passes SIGTERM on as
        Ctrl-C: its children inherit what is ignored, but no handlers.
        """
        ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}

        def note(number: int, _: object) -> None:
            if number not in ignored:
                self._events.put(signal.Signals(number))

        heard = [number for number in SIGNALS if number != signal.SIGHUP or number not in ignored]  # of nohup
        before = {number: signal.signal(number, note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, reason: BaseException) -> None:
        """Ctrl-C for all. A second one, which ends the saving of a training, only if the user repeats it."""
        first = self.stopped is None
        self.stopped = self.stopped or reason
        if not first and not isinstance(reason, KeyboardInterrupt):
            return
        self._signals += 1
        number = signal.SIGINT if self._signals < KILLED_AT else signal.SIGKILL
        for process in self._running.values():
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
                self._events.put(error)
            except OSError as error:  # a full disk, a closed terminal
                broken = True
                self._events.put(UserError(f"standard output: cannot be written to ({error.strerror})"))

    def _wait(self, stage: str, process: subprocess.Popen[str], show: threading.Thread) -> None:
        process.wait()
        show.join(PIPE_GRACE)  # what a stage leaves running in the background holds the pipe for as long
        self._events.put(stage)


def _environment() -> dict[str, str]:
    """Stages call `python`, which must be this one; their lines come through the pipe as they are written."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
