"""A training run that is tried out: a process of its own in a folder of its own, as a user's would be, and killed by SIGKILL, which no
program can answer. What it leaves is compared by `pose.verify`.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from pose import build_ext
from pose.checkpoint import load_state
from pose.distributed import launch, launched, wanted
from pose.errors import UserError, run_main
from pose.files import read_text
from pose.folders import Folders
from pose.params import Params, load_params, write_params
from pose.presets import PARAMS
from pose.record import Unrecorded
from pose.resume import States
from pose.training import train

POLL = 0.001  # seconds
STEP_LOG = "steps.txt"


@dataclass(frozen=True)
class Life:
    """One start of a run until its kill or end: the step after which it began, the one that it reached, and whether a state was half
    written."""

    began: int
    reached: int
    writing: bool


class StepLog(Unrecorded):
    """Takes MLflow's place: one line a step, written at once, so that it tells what a process had done when it was killed."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Validation figures are left out: their step has its line."""
        if "loss" not in values:
            return
        with Path(STEP_LOG).open("a") as file:
            file.write(f"{step}\n")


@dataclass(frozen=True)
class Trial:
    """A run in a folder of its own."""

    folder: Path
    task: str
    steps: int
    prepared: Path

    @staticmethod
    def fresh(folder: Path, task: str, steps: int, prepared: Path, params: Params, *, workers: int | None = None) -> Trial:
        """One that has not begun, with these parameters; another trial in the folder is removed."""
        if folder.exists() and not (folder / PARAMS).exists():
            raise UserError(f"{folder}: is there already and none of ours, expected a folder without it")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        how = params.train.model_copy(update={"workers": params.train.workers if workers is None else workers})
        write_params(params.model_copy(update={"train": how}), folder / PARAMS)
        return Trial(folder, task, steps, prepared)

    def run(self) -> float:
        """To the end; seconds."""
        started = time.monotonic()
        with self.process() as process:
            process.wait()
        self._check(process)
        return time.monotonic() - started

    def run_through(self, kills: int, every: int, chance: random.Random) -> list[Life]:
        """To the end, killed on the way, every other time while it writes a state. The last of the lives came to the end."""
        lives: list[Life] = []
        while len(lives) < kills:
            before = len(self.steps_done())
            saved = self._saved()
            # Not so near the end that it might be over first.
            target = saved + chance.randint(1, max(1, min(2 * every, self.steps - saved - every - 1)))
            in_writing = len(lives) % 2 == 1
            with self.process() as process:
                while process.poll() is None and not self._reached(before, target):
                    time.sleep(POLL)
                family = _family(process)
                if in_writing:
                    while process.poll() is None and not self._unfinished():
                        pass  # a small state is written in a millisecond or two
                else:
                    time.sleep(chance.uniform(0, 0.02))
                ended = process.poll() is not None
                if not ended:
                    _kill(family)
                    process.wait()
            if ended:
                self._check(process)
                return [*lives, self._life(before, saved)]
            if len(self.steps_done()) > before:  # else it was killed before it came to anything, as it was when it wrote its first
                lives.append(self._life(before, saved))
        before, saved = len(self.steps_done()), self._saved()
        self.run()
        return [*lives, self._life(before, saved)]

    def _life(self, before: int, saved: int) -> Life:
        """That which did the steps after the first `before` of the log."""
        done = self.steps_done()[before:]
        return Life(began=done[0] - 1 if done else saved, reached=max(done, default=saved), writing=bool(self._unfinished()))

    def steps_done(self) -> list[int]:
        """Of all processes, in the order in which they did them."""
        path = self.folder / STEP_LOG
        if not path.exists():
            return []
        *whole, _ = path.read_text(encoding="utf-8").split("\n")  # a line may be half written
        return [int(line) for line in whole]

    def state(self) -> dict[str, Any]:
        """The resume state that it ended with."""
        return load_state(States(self.folder / Folders(self.task).checkpoints).newest)

    def files(self) -> dict[str, bytes]:
        """Weights for use and history, by path."""
        folders = Folders(self.task)
        paths = [folders.models / "last.pt", folders.models / "best.pt", folders.plots / "train.csv", folders.plots / "valid.csv"]
        return {str(path): (self.folder / path).read_bytes() for path in paths}

    def _saved(self) -> int:
        path = States(self.folder / Folders(self.task).checkpoints).newest
        return int(load_state(path)["progress"]["step"]) if path.exists() else 0

    def _reached(self, before: int, target: int) -> bool:
        done = self.steps_done()[before:]
        return bool(done) and done[-1] >= target

    def _unfinished(self) -> list[Path]:
        return list((self.folder / Folders(self.task).checkpoints).glob(".[0-9]*.state.pt"))

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """A start of it, which goes on where an earlier one ended; killed at the end of the block if it has not ended."""
        environment = os.environ | {"POSE_BUILD": str(build_ext.build_folder().resolve())}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pose.trial", self.task, str(self.steps), str(self.prepared)]
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
            try:
                yield process
            finally:
                if process.poll() is None:
                    _kill(_family(process))
                    process.wait()

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process.returncode:
            log = self.folder / "log.txt"
            errors = [line for line in read_text(log).splitlines() if line.startswith("error: ")]
            what = errors[0].removeprefix("error: ") if errors else (read_text(log).strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"{self.task}: training ended with status {process.returncode}: {what}")


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all that it started, torchrun's processes too."""
    try:
        parent = psutil.Process(process.pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


def _kill(family: Sequence[psutil.Process]) -> None:
    """All at once: asked to end by a parent that is gone, training would save first."""
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()


def done_again(lives: Sequence[Life]) -> int:
    """The most steps that a restart did again."""
    return max((before.reached - after.began for before, after in pairwise(lives)), default=0)


def _train(task: str, steps: str, prepared: str) -> None:
    """One of the runs, in a process of its own."""
    params = load_params()
    processes = wanted(params.train.processes)
    if processes > 1 and not launched():
        launch(processes, "pose.trial", task, steps, prepared)
        return
    train(params, task, prepared=Path(prepared), most=int(steps), record=StepLog())


if __name__ == "__main__":
    run_main(_train, *sys.argv[1:])
