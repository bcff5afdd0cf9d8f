"""`pose verify`: trains the same few steps several times, once through kills, and compares all state bit by bit.

Every run is a process of its own with a folder of its own, as a user's would be; what it is killed by is SIGKILL, which no program can
answer.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import Tensor

from pose import build_ext
from pose.checkpoint import load_state
from pose.distributed import launch, launched, wanted
from pose.errors import UserError, run_main
from pose.files import read_text
from pose.folders import PREPARED, Folders
from pose.params import Params, load_params, parse_params, write_params
from pose.presets import PARAMS, params_with
from pose.record import Unrecorded
from pose.resume import States
from pose.training import check, train

STEPS, KILLS = 8, 2
WORKERS = (0, 1, 4)
POLL = 0.001  # seconds
# What a run ends with takes long at the paper's sizes and is a function of the weights: looked at on few, or not at all.
BRIEF = {
    "train.validation_people": 8,
    "train.training_people": 0,
    "train.checkpoint_minutes": 0.0,
    "multi.thresholds.choose": False,
}
STEP_LOG = "steps.csv"


def verify(
    task: str,
    *,
    steps: int = STEPS,
    kills: int = KILLS,
    preset: str | None = None,
    batch: int | None = None,
    changes: Mapping[str, str] | None = None,
    prepared: Path | None = None,
    keep: Path | None = None,
    seed: int = 0,
) -> bool:
    """Train `steps` steps of a task: once, again, with other loader workers, and killed `kills` times; print what is equal.

    Parameters are those of params.yaml, with a preset's and `changes` (dotted key to YAML text) over them, and `batch`. prepared: where the
    prepared set is. keep: a folder in which the runs stay. seed: of the moments at which it is killed.
    Returns whether all bits are equal and no restart did more than one checkpoint interval again. UserError for what cannot be trained.
    """
    if steps < 1 or kills < 0:
        raise UserError(f"steps: found {steps} steps and {kills} kills, expected at least 1 step")
    values = _parameters(task, preset, batch, changes or {})
    every = max(1, steps // (2 * max(kills, 1)))
    _set(values, "train.checkpoint_every", every)
    params = parse_params(values, "params.yaml as changed")
    source = prepared or PREPARED[params.task(task).problem]
    _, rows, _ = check(params, task, wanted(params.train.processes), prepared=source)  # here, where a mistake is one line
    most = params.task(task).epochs * (len(rows) // params.task(task).batch)
    if steps > most:
        raise UserError(f"steps: found {steps}, expected at most the {most} of tasks.{task}.epochs")
    source = source.resolve()
    with _folder(keep) as root:
        counts = {"once": params.train.workers, "again": params.train.workers}
        counts |= {f"{count} workers": count for count in WORKERS if count != params.train.workers}
        print(f"{task}: {steps} steps, a state every {every}, {_where(params)}; in {root}", flush=True)
        runs = {
            name: Trial.prepared_in(root / name.replace(" ", "-"), task, steps, source, params, workers=count)
            for name, count in counts.items()
        }
        for name, trial in runs.items():
            print(f"  {name}: {trial.run():.0f} s", flush=True)
        killed = Trial.prepared_in(root / "killed", task, steps, source, params)
        lives = killed.run_through(kills, every, random.Random(seed))
        killed_at = ", ".join(str(life.reached) for life in lives[:-1])
        print(f"  killed {len(lives) - 1} times, at steps {killed_at}", flush=True)
        once, *_ = runs.values()
        equal = compare(
            once, {name: trial for name, trial in runs.items() if trial is not once} | {f"killed {len(lives) - 1} times": killed}
        )
        if len(lives) <= kills:
            raise UserError(f"steps: found {steps}, expected more: the run was over after {len(lives) - 1} of {kills} kills")
        print(_said_of(lives, every))
        return equal and done_again(lives) <= every


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
            file.write(f"{os.getpid()},{step},{json.dumps(dict(values))}\n".replace('"', "'"))


@dataclass(frozen=True)
class Trial:
    """A run in a folder of its own."""

    folder: Path
    task: str
    steps: int
    prepared: Path

    @staticmethod
    def prepared_in(folder: Path, task: str, steps: int, prepared: Path, params: Params, *, workers: int | None = None) -> Trial:
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
        with path.open(newline="") as file:
            # The last line may be half written.
            return [int(row[1]) for row in csv.reader(file) if len(row) > 2 and row[1].isdecimal()]

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
        command = [sys.executable, "-m", "pose.verify", self.task, str(self.steps), str(self.prepared)]
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


def compare(one: Trial, others: Mapping[str, Trial]) -> bool:
    """Print a table of all that is part of a run's end, and whether the others' is equal to one's."""
    parts = {name: _parts(trial) for name, trial in {"": one, **others}.items()}
    rows, equal = [["", "numbers", *others]], True
    for part, values in parts[""].items():
        row = [part, f"{sum(_count(value) for value in values.values()):,}"]
        for name in others:
            theirs = parts[name].get(part, {})
            keys = [key for key in values.keys() | theirs.keys() if not _same(values.get(key), theirs.get(key))]
            row.append(f"{len(keys)} differ: {min(keys)}" if keys else "equal")
            equal &= not keys
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return equal


def _parts(trial: Trial) -> dict[str, dict[str, Any]]:
    """All that a run ends with, by kind; times are no part of it."""
    state = trial.state()
    parts = {"weights": dict(_leaves(state["net"])), "optimizer": dict(_leaves(state["optimizer"]))}
    if state["adversary"]:
        parts["adversary's weights"] = dict(_leaves(state["adversary"]["net"]))
        parts["adversary's optimizer"] = dict(_leaves(state["adversary"]["optimizer"]))
        parts["k_t"] = {"k": state["adversary"]["k"]}
    parts["best weights"] = dict(_leaves(state["best"] or state["net"]))
    progress = {key: value for key, value in state["progress"].items() if key not in ("seconds", "clock")}
    parts["progress, history"] = dict(_leaves(progress))
    parts["files"] = dict(trial.files())
    return parts


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
    return type(one) is type(other) and bool(one == other)


def _count(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, bytes) else 1


def done_again(lives: Sequence[Life]) -> int:
    """The most steps that a restart did again."""
    return max((before.reached - after.began for before, after in pairwise(lives)), default=0)


def _said_of(lives: Sequence[Life], every: int) -> str:
    writing = sum(life.writing for life in lives)
    kills = f"{len(lives) - 1} kills, {writing} of them while a state was written"
    return f"  {kills}; at most {done_again(lives)} steps were done again, a state is written every {every}"


def _parameters(task: str, preset: str | None, batch: int | None, changes: Mapping[str, str]) -> dict[str, Any]:
    params = params_with(preset) if preset else load_params()
    params.task(task)
    values = params.model_dump()
    given = {key: _value(key, text) for key, text in changes.items()}
    if batch:
        given[f"tasks.{task}.batch"] = batch
    for key, value in (BRIEF | given).items():
        _set(values, key, value)
    return values


def _value(key: str, text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, TypeError):
        raise UserError(f"--set: {key}={text[:60]}: not valid YAML") from None


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    inner: Any = values
    for part in path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner:
        raise UserError(f"--set: unknown key {key}, expected one that {PARAMS} has")
    inner[last] = value


def _where(params: Params) -> str:
    processes = wanted(params.train.processes)
    device = "GPU" if torch.cuda.is_available() else "CPU"
    return f"{processes} processes on the {device}" if processes > 1 else f"on the {device}"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="pose-verify-") as name:
            yield Path(name)


def _train(task: str, steps: str, prepared: str) -> None:
    """One of the runs, in a process of its own."""
    params = load_params()
    processes = wanted(params.train.processes)
    if processes > 1 and not launched():
        launch(processes, "pose.verify", task, steps, prepared)
        return
    train(params, task, prepared=Path(prepared), most=int(steps), record=StepLog())


if __name__ == "__main__":
    run_main(_train, *sys.argv[1:])
