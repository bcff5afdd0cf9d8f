"""A training run in processes and a folder of its own, as a user's would be, interrupted on the way.

By SIGKILL, which no program can answer, of all or one of its processes, or SIGSTOP of one.
`pose.experiments.verify` compares what such runs leave.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import psutil

from pose.experiments.presets import PARAMS
from pose.experiments.repro.broken_lock import remove_broken_lock
from pose.io.command import run_stage
from pose.io.errors import Interrupted, UserError
from pose.io.files import read_text
from pose.io.paths import PACKAGE, TaskPaths
from pose.io.schema import write_yaml
from pose.ops import build
from pose.params import Params, load_params
from pose.training.checkpoint import Checkpoint, load_checkpoint
from pose.training.distributed import is_first_process, is_launched
from pose.training.launch import launch_if_several
from pose.training.lock import end_with_parent
from pose.training.trainer import train

POLL = 0.001  # seconds
END_SECONDS = 120.0  # within which a run that has lost one of its processes must have ended
STEP_LOG = "steps.txt"
BEGIN = "--- attempt\n"  # in the log, before what each start of a run prints
# All processes at once, the same while a checkpoint is written, DVC alone, the trainer (or what launched its
# processes) alone, one process below it, or one that is stopped and stays so; in this order, over again.
Kind = Literal["all", "writing", "dvc", "trainer", "child", "stopped"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Attempt:
    """One start of a run, until it was killed or over.

    first, reached: the step after which it began, and its last one. kind: of what ended it, None if it was
    over.
    """

    first: int
    reached: int
    kind: Kind | None


@dataclass(frozen=True)
class SubprocessRun:
    """A run of so many steps in a folder of its own. under_dvc: it is a stage that `dvc repro` runs."""

    folder: Path
    task: str
    steps: int
    prepared: Path
    under_dvc: bool = False

    @staticmethod
    def create(
        folder: Path,
        task: str,
        steps: int,
        prepared: Path,
        params: Params,
        *,
        workers: int | None = None,
        under_dvc: bool = False,
    ) -> SubprocessRun:
        """A run with these parameters that has not begun; an earlier run in the folder is removed."""
        if folder.exists() and not (folder / PARAMS).exists():
            raise UserError(
                f"{folder}: found a folder without {PARAMS}, expected an earlier run or a new name"
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        train = params.train.model_copy(update={} if workers is None else {"workers": workers})
        write_yaml(folder / PARAMS, params.model_copy(update={"train": train}).model_dump())
        run = SubprocessRun(folder, task, steps, prepared, under_dvc)
        if under_dvc:
            outs = [{"models": {"cache": False}}]
            stage = {"cmd": shlex.join(run._command), "params": ["seed"], "outs": outs}
            write_yaml(folder / "dvc.yaml", {"stages": {"train": stage}})
            init = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
            done = subprocess.run(init, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
                raise UserError(f"{folder}: dvc init: {reason[0]}")
        return run

    def run(self) -> float:
        """Run to the end, resuming if it has begun; returns the seconds."""
        started = time.monotonic()
        with self.process() as process:
            process.wait()
        self._check(process)
        return time.monotonic() - started

    def run_interrupted(self, times: int, every: int, rng: random.Random) -> list[Attempt]:
        """Run to the end, interrupted that often, in the ways of `KINDS`.

        every: steps between checkpoints. The last attempt is the one that ends; there are fewer interruptions
        where the run is over too soon. UserError if it does not end after it has lost a process.
        """
        kinds = [kind for kind in KINDS if kind != "dvc" or self.under_dvc]
        attempts: list[Attempt] = []
        while len(attempts) < times:
            before, saved = len(self.steps_done()), self._saved_step()
            # Not so near the end that the run might be over first.
            target = saved + rng.randint(1, max(1, min(2 * every, self.steps - saved - every - 1)))
            kind = kinds[len(attempts) % len(kinds)]
            with self.process() as process:
                interrupted = self._interrupt_at(process, before, target, kind, rng)
            if not interrupted:
                self._check(process)
                return [*attempts, self._attempt(before, saved, None)]
            if len(self.steps_done()) > before:  # else it was killed before its first step
                attempts.append(self._attempt(before, saved, kind))
        before, saved = len(self.steps_done()), self._saved_step()
        self.run()
        return [*attempts, self._attempt(before, saved, None)]

    def steps_done(self) -> list[int]:
        """The steps of all attempts, in the order in which they were done."""
        path = self.folder / STEP_LOG
        *lines, _ = path.read_text().split("\n") if path.exists() else [""]  # the last may be half written
        return [int(line) for line in lines]

    def checkpoint(self) -> Checkpoint:
        """Its latest checkpoint."""
        return load_checkpoint(self._latest)

    def files(self) -> dict[str, bytes]:
        """Model weights and history, by path."""
        paths = TaskPaths(self.task)
        names = [*(paths.models / name for name in ("last.pt", "best.pt"))]
        names += [paths.plots / name for name in ("train.csv", "val.csv")]
        return {str(path): (self.folder / path).read_bytes() for path in names}

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """A start of it, which resumes from a checkpoint; killed at the end of the block if it still runs."""
        environment = os.environ | {"POSE_BUILD": str(build.build_folder().resolve())}
        package = str(PACKAGE.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        command = self._command
        if self.under_dvc:
            remove_broken_lock(self.folder)
            command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
        with (self.folder / "log.txt").open("ab") as log:
            log.write(BEGIN.encode())
            log.flush()
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
            try:
                yield process
            finally:
                if process.poll() is None:
                    _kill_all(process)

    @property
    def _command(self) -> list[str]:
        return [sys.executable, "-m", __name__, self.task, str(self.steps), str(self.prepared)]

    @property
    def _latest(self) -> Path:
        """Of the only run in the folder; a path that does not exist before its first checkpoint."""
        folder = TaskPaths(self.task, self.folder).checkpoints
        return next(folder.glob("*/latest.pt"), folder / "latest.pt")

    def _interrupt_at(
        self, process: subprocess.Popen[bytes], before: int, target: int, kind: Kind, rng: random.Random
    ) -> bool:
        """Interrupt it at a step, and wait until all of it has ended; False if it was over."""
        while process.poll() is None and max(self.steps_done()[before:], default=0) < target:
            time.sleep(POLL)
        if kind != "writing":
            time.sleep(rng.uniform(0, 0.02))
        while kind == "writing" and process.poll() is None and not self._half_written():
            pass  # a small checkpoint is written in a millisecond or two
        members = _members(process)
        if process.poll() is not None or not members:
            return False
        trainer, *below = [member for member in members if member.pid != process.pid] or members
        if kind in ("all", "writing"):
            _kill_all(process)
        elif kind == "dvc":
            process.kill()
        elif kind == "trainer" or not below:
            trainer.kill()
        elif kind == "child":
            rng.choice(below).kill()
        else:
            rng.choice(below).suspend()
        _, alive = psutil.wait_procs(members, timeout=END_SECONDS)
        if alive:
            for one in alive:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            still = f"{len(alive)} processes still ran after {END_SECONDS:g} s"
            raise UserError(f"{self.task}: {still}, expected all to end after an interruption ({kind})")
        process.wait()
        return True

    def _attempt(self, before: int, saved: int, kind: Kind | None) -> Attempt:
        """The attempt that did the steps after the first `before` of the log."""
        done = self.steps_done()[before:]
        first = done[0] - 1 if done else saved
        return Attempt(first, reached=max(done, default=saved), kind=kind)

    def _saved_step(self) -> int:
        return int(self.checkpoint().state["step"]) if self._latest.exists() else 0

    def _half_written(self) -> bool:
        return any(TaskPaths(self.task, self.folder).checkpoints.glob("*/.[0-9]*latest.pt"))

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process.returncode:
            last = read_text(self.folder / "log.txt").rpartition(BEGIN)[2]
            lines = last.strip().splitlines() or ["no output"]
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            reason = errors[0] if errors else lines[-1]
            raise UserError(f"{self.task}: training ended with status {process.returncode}: {reason}")


def repeated_steps(attempts: Sequence[Attempt]) -> int:
    """The most steps that an attempt repeated of the one before."""
    return max((before.reached - after.first for before, after in pairwise(attempts)), default=0)


def _members(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The process and all below it that train, or run what does: without shells, launchers first."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        below = root.children(recursive=True)
        return [root, *(one for one in below if __name__ in _words(one) and "-c" not in _words(one)[:2])]
    return []


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill it with all that it started, at once: a child that lost its parent would save before it ends."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for member in [*parent.children(recursive=True), parent]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def _log_step(step: int, terms: Mapping[str, float]) -> None:
    """Write one line for each step at once, so that it tells what a process had done when it was killed."""
    if is_first_process():
        with Path(STEP_LOG).open("a") as file:
            file.write(f"{step}\n")


def main(task: str, steps: str, prepared: str) -> None:
    """Train one of the runs in this process: a task, its steps, the prepared set."""
    end_with_parent(direct=is_launched())
    params, args = load_params(), (task, steps, prepared)
    if launch_if_several(params, task, __spec__.name, *args, prepared=Path(prepared)):
        return
    try:
        train(params, task, prepared=Path(prepared), max_steps=int(steps), on_step=_log_step)
    except Interrupted:  # DVC or the launcher was killed
        sys.exit(f"{task}: interrupted; the same command resumes from here")


if __name__ == "__main__":
    run_stage(main)
