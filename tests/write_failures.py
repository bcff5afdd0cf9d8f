"""What tests/test_write_failures.py runs with failing_writes.c preloaded: stages whose calls of the system fail.

`python write_failures.py base FOLDER`: the outputs of all stages, undisturbed. `... STAGE FOLDER [SAMPLE]`: the
stage on a copy of these, once for each call that changes a file, which fails; SAMPLE: for so many of each kind.
Prints a line for whatever is not as it should be, and a summary.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
from forked import run_forked

import pose.tracking.mlflow
import stages.build_ext
import stages.toolchain
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.inference.evaluate import evaluate
from pose.io.command import run_command
from pose.io.errors import UserError
from pose.io.paths import PREPARED, TaskPaths
from pose.params import load_params
from pose.report import write_report
from pose.tracking.mlflow import MlflowTracker
from pose.training.checkpoint import load_checkpoint
from pose.training.trainer import train

KINDS = ("create", "write", "rename", "sync", "remove")
NONE, FAIL_ONE, FAIL_FROM_THERE_ON, KILL = range(4)
EFFECTS = {FAIL_ONE: "fails", FAIL_FROM_THERE_ON: "and all after it fail", KILL: "kills"}
SECONDS = 60
# What equal runs differ in, or is not ours.
VARYING = re.compile(r"mlflow\.db|mlruns/|mlartifacts/|\.lock$|/run_id$|^checkpoints/\w[\w-]*/\w+\.pt$")

Snapshot = dict[str, str]  # hash of each file by its path


def synthesize_sets() -> None:
    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root="data/synthetic", workers=1)


def pack_people() -> None:
    params = load_params()
    root, path = params.data.root, PREPARED["single"]
    prepare_lsp_mpii(root, path, params=params.prepare, seed=params.seed, workers=1)


def pack_images() -> None:
    params = load_params()
    prepare_coco(params.data.root, PREPARED["multi"], params=params.prepare.coco, seed=params.seed, workers=1)


def train_tracked() -> None:
    pose.tracking.mlflow.SYNC_SECONDS = pose.tracking.mlflow.FINISH_SECONDS = 0.5
    train(load_params(), "hgpose", tracker=MlflowTracker(TaskPaths("hgpose").run_id))


# Each stage, and what it writes.
STAGES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "synthesize": (synthesize_sets, ("data/synthetic",)),
    "prepare_lsp_mpii": (pack_people, ("data/prepared/lsp_mpii.h5",)),
    "prepare_coco": (pack_images, ("data/prepared/coco",)),
    "toolchain": (stages.toolchain.main, ("build/toolchain.json", "build/code")),
    "build_ext": (stages.build_ext.main, ("build/operator", "build/operator.json")),
    **{
        f"train@{task}": (
            lambda task=task: train(load_params(), task),
            (
                f"models/{task}",
                f"checkpoints/{task}",
                f"metrics/plots/{task}/train.csv",
                f"metrics/plots/{task}/val.csv",
            ),
        )
        for task in ("hgpose", "advpose-ae")
    },
    **{
        f"evaluate@{task}": (
            lambda task=task: evaluate(load_params(), task),
            (f"metrics/{task}.json", f"metrics/provenance/{task}.json", "predictions"),
        )
        for task in ("hgpose", "advpose-ae")
    },
    "report": (lambda: write_report(load_params()), ("report", "metrics/summary.json")),
}
TRACKED = {"train@hgpose, tracked": (train_tracked, STAGES["train@hgpose"][1])}


class Control:
    """The `struct control` of failing_writes.c."""

    def __init__(self, folder: Path):
        with open(os.environ["FAILING_WRITES"], "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._folder = bytes(folder) + b"\0"

    def arm(self, kind: int = 0, number: int = 0, effect: int = NONE) -> None:
        self._memory[: 32 + len(self._folder)] = (
            struct.pack("8i", kind, number, effect, *[0] * 5) + self._folder
        )

    def counts(self) -> tuple[int, ...]:
        return struct.unpack_from("5i", self._memory, 12)


def run(stage: Callable[[], object], folder: Path, replaced: Path | None = None) -> tuple[int, str]:
    """A stage in a folder, as a command. replaced: where the hash of each file that is renamed is noted."""

    def command() -> None:
        os.chdir(folder)
        cv2.setNumThreads(0)
        # Equal runs differ in the seconds that they took.
        pose.training.loop.time = SimpleNamespace(monotonic=lambda: 0.0)  # type: ignore[assignment]
        if replaced:
            note_replaced(replaced)
        run_command(stage)

    return run_forked(command, seconds=SECONDS)


def note_replaced(path: Path) -> None:
    replace = os.replace

    def noting(source: Path, target: Path) -> None:
        replace(source, target)
        with path.open("a") as notes:
            notes.writelines(
                f"{digest} {name}\n" for name, digest in snapshot(Path(target).absolute(), Path.cwd()).items()
            )

    os.replace = noting


def snapshot(path: Path, root: Path) -> Snapshot:
    """The hash of a file, or of all within a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    found = {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    return {name: digest for name, digest in sorted(found.items()) if not VARYING.search(name)}


def points(counts: tuple[int, ...], sample: int) -> Iterator[tuple[int, int, int]]:
    """kind, number and effect of each failure; with a sample of each kind, its numbers evenly spread."""
    for kind, count in enumerate(counts):
        numbers = range(1, count + 1)
        for effect in EFFECTS:
            some = (
                numbers if not sample else {numbers[at * count // sample] for at in range(min(sample, count))}
            )
            for number in sorted(some):
                yield kind, number, effect


def try_stage(name: str, base: Path, sample: int) -> int:
    """Number of the failures after which something was not as it should be."""
    stage, outputs = (STAGES | TRACKED)[name]
    trial, notes, started = base.with_name(f"{base.name} trial"), base.with_name("notes"), time.monotonic()
    control = Control(trial)

    def prepare() -> None:
        """The inputs of the stage, and outputs of another run, which it replaces."""
        control.arm(effect=NONE)
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(base, trial, symlinks=True)
        for output in outputs:
            for file in [trial / output, *(trial / output).rglob("*")]:
                if file.is_file():
                    file.write_text("old")
        shutil.rmtree(trial / "checkpoints", ignore_errors=True)

    prepare()
    old = snapshot(trial, trial)
    notes.unlink(missing_ok=True)
    control.arm()
    status, output = run(stage, trial, notes)
    assert status == 0, output
    expected, whole = snapshot(trial, trial), {(name, digest) for name, digest in old.items()}
    whole |= set(expected.items())
    whole |= {
        (name, digest) for digest, _, name in (line.partition(" ") for line in notes.read_text().splitlines())
    }
    prepare()
    control.arm()
    run(stage, trial)
    counts = control.counts()  # without what noting takes
    assert snapshot(trial, trial) == expected, "equal runs differ"

    wrong = 0
    todo = list(points(counts, sample))
    for kind, number, effect in todo:
        prepare()
        control.arm(kind, number, effect)
        status, output = run(stage, trial)
        control.arm(effect=NONE)
        faults = list(faults_of_end(status, output, effect))
        faults += [
            f"half written: {name}"
            for name, digest in snapshot(trial, trial).items()
            if (name, digest) not in whole and not Path(name).name.startswith(".") and "/." not in name
        ]
        for checkpoint in trial.glob("checkpoints/*/[a-z]*.pt"):
            try:
                load_checkpoint(checkpoint)
            except UserError as error:
                faults.append(str(error))
        status_again, output_again = run(stage, trial)
        if status_again:
            faults.append(f"cannot be run again: {output_again[-300:]!r}")
        elif (found := snapshot(trial, trial)) != expected:
            different = sorted(name for name, _ in found.items() ^ expected.items())
            faults.append(
                f"after a second run, other files than without a failure: {', '.join(different[:4])}"
            )
        if faults:
            wrong += 1
            print(
                f"{name}: {KINDS[kind]} {number} of {counts[kind]} {EFFECTS[effect]}: {'; '.join(faults)}",
                flush=True,
            )
    numbers = ", ".join(f"{count} {kind}" for count, kind in zip(counts, KINDS, strict=True))
    print(
        f"{name}: {numbers}: {wrong} of {len(todo)} failures wrong, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return wrong


def faults_of_end(status: int, output: str, effect: int) -> Iterator[str]:
    """What is wrong with how a stage ended."""
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    if "Traceback" in output or "Exception ignored" in output:
        yield f"traceback: {output}"
    elif status == 1 and len(errors) != 1:
        yield f"{len(errors)} error lines: {output[-300:]!r}"
    elif status not in (0, 1, *([-signal.SIGKILL] if effect == KILL else [])):
        yield f"ended with {status}: {output[-300:]!r}"


def main(name: str, folder: str, sample: str = "0") -> None:
    base = Path(folder).resolve()
    if name != "base":
        sys.exit(min(try_stage(name, base, int(sample)), 1))
    for stage, _ in STAGES.values():
        status, output = run(stage, base)
        assert status == 0, output
    for task in ("advpose", "hgpose-ae"):
        shutil.rmtree(base / "models" / task, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
