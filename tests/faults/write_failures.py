"""What test_write_failures.py runs with failing_writes.c preloaded: stages whose system calls fail.

`FOLDER all|few STAGE...`: runs all stages (or those named) in the folder, then each of those named on a copy
of it, once for each call that changes a file (or a few), which then fails. Prints a line for whatever is not
as it should be, and a summary of each stage.
"""

import hashlib
import mmap
import os
import re
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Set
from functools import partial
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
VARYING = re.compile(r"mlflow\.db|mlruns/|mlartifacts/|\.lock$|/run_id$|^checkpoints/\w[\w-]*/\w+/\w+\.pt$")


def synthesize_sets() -> None:
    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root="data/synthetic", workers=1)


def pack_people() -> None:
    params = load_params()
    root, path = params.data.root, PREPARED["lsp_mpii"]
    prepare_lsp_mpii(root, path, params=params.prepare, seed=params.seed, workers=1)


def pack_images() -> None:
    params = load_params()
    prepare_coco(params.data.root, PREPARED["coco"], params=params.prepare.coco, seed=params.seed, workers=1)


def train_task(task: str) -> None:
    train(load_params(), task)


def train_tracked(task: str) -> None:
    pose.tracking.mlflow.SYNC_SECONDS = pose.tracking.mlflow.RETRY_SECONDS = 0.5
    pose.tracking.mlflow.FINISH_SECONDS = 10.0
    train(load_params(), task, tracker=MlflowTracker())


def evaluate_task(task: str) -> None:
    evaluate(load_params(), task)


def training_outputs(task: str) -> tuple[str, ...]:
    plots = TaskPaths(task).plots
    return f"models/{task}", f"{plots}/train.csv", f"{plots}/val.csv"


def evaluation_outputs(task: str) -> tuple[str, ...]:
    return *(f"metrics/{name}{task}.json" for name in ("", "summary/", "provenance/")), "predictions"


# Each stage, and what it writes.
STAGES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "synthesize": (synthesize_sets, ("data/synthetic",)),
    "prepare_lsp_mpii": (pack_people, ("data/prepared/lsp_mpii.h5",)),
    "prepare_coco": (pack_images, ("data/prepared/coco",)),
    "toolchain": (stages.toolchain.main, ("build/toolchain.json", "build/code")),
    "build_ext": (stages.build_ext.main, ("build/operator", "build/operator.json")),
    "train@hgpose": (partial(train_task, "hgpose"), training_outputs("hgpose")),
    "train@advpose-ae": (partial(train_task, "advpose-ae"), training_outputs("advpose-ae")),
    "evaluate@hgpose": (partial(evaluate_task, "hgpose"), evaluation_outputs("hgpose")),
    "evaluate@advpose-ae": (partial(evaluate_task, "advpose-ae"), evaluation_outputs("advpose-ae")),
    "report": (lambda: write_report(load_params()), ("report",)),
}
TRACKED = {"tracked train@hgpose": (partial(train_tracked, "hgpose"), training_outputs("hgpose"))}


class Control:
    """The `struct control` of failing_writes.c."""

    def __init__(self, folder: Path):
        with open(os.environ["FAILING_WRITES"], "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._folder = bytes(folder) + b"\0"

    def arm(self, kind: int = 0, number: int = 0, effect: int = NONE) -> None:
        content = struct.pack("8i", kind, number, effect, *[0] * len(KINDS)) + self._folder
        self._memory[: len(content)] = content

    def counts(self) -> tuple[int, ...]:
        return struct.unpack_from("5i", self._memory, 12)


def run(stage: Callable[[], object], folder: Path, replaced: Path | None = None) -> tuple[int, str]:
    """A stage in a folder, as a command. replaced: where the hash of each file that is renamed is noted."""

    def command() -> None:
        os.chdir(folder)
        cv2.setNumThreads(0)
        # Equal runs differ in the seconds that they took.
        pose.training.loop.time = SimpleNamespace(monotonic=lambda: 0.0)
        if replaced:
            note_replaced(replaced)
        run_command(stage)

    return run_forked(command, seconds=SECONDS)


def note_replaced(path: Path) -> None:
    replace = os.replace

    def noting(source: Path, target: Path) -> None:
        replace(source, target)
        with path.open("a") as notes:
            found = snapshot(Path(target).absolute(), Path.cwd())
            notes.writelines(f"{digest} {name}\n" for name, digest in found.items())

    os.replace = noting


def snapshot(path: Path, root: Path) -> dict[str, str]:
    """The hash of a file, or of all within a folder, by its path from `root`."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    hashes = {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()) for file in files}
    return {name: hashes[name].hexdigest() for name in sorted(hashes) if not VARYING.search(name)}


def points(counts: tuple[int, ...], most: int) -> Iterator[tuple[int, int, int]]:
    """Kind, number and effect of each failure. most: calls of a kind, evenly spread, with one effect each."""
    for kind, count in enumerate(counts):
        some = min(most or count, count)
        for at in range(some):
            effects = [1 + (kind + at) % len(EFFECTS)] if most else EFFECTS
            yield from ((kind, 1 + (2 * at + 1) * count // (2 * some), effect) for effect in effects)


def try_stage(name: str, base: Path, most: int) -> int:
    """The number of failures after which something was not as it should be."""
    stage, outputs = (STAGES | TRACKED)[name]
    trial, notes, started = base.with_name(f"{base.name} trial"), base.with_name("notes"), time.monotonic()
    control = Control(trial)

    def prepare() -> None:
        """The inputs of the stage, and outputs of another run, which it replaces."""
        control.arm()
        shutil.rmtree(trial, ignore_errors=True)
        unused = shutil.ignore_patterns("checkpoints", "mlruns", "mlartifacts")
        shutil.copytree(base, trial, symlinks=True, ignore=unused)
        for output in outputs:
            for file in [trial / output, *(trial / output).rglob("*")]:
                if file.is_file():
                    file.write_text("old")

    prepare()
    old = snapshot(trial, trial)
    notes.write_text("")
    status, output = run(stage, trial, notes)
    assert status == 0, output
    expected = snapshot(trial, trial)
    replaced = (line.partition(" ")[::2] for line in notes.read_text().splitlines())
    whole = old.items() | expected.items() | {(name, digest) for digest, name in replaced}
    prepare()
    control.arm()
    run(stage, trial)
    counts = control.counts()  # without what noting takes
    assert snapshot(trial, trial) == expected, "equal runs differ"

    assert all(counts[:3]), "failing_writes.c is not preloaded"
    wrong, todo = 0, list(points(counts, most))
    for kind, number, effect in todo:
        prepare()
        control.arm(kind, number, effect)
        status, output = run(stage, trial)
        control.arm()
        faults = [*faults_of_end(status, output, effect), *faults_of_files(trial, whole)]
        status, output = run(stage, trial)
        if status:
            faults.append(f"cannot be run again: {output}")
        elif (found := snapshot(trial, trial)) != expected:
            different = sorted({name for name, _ in found.items() ^ expected.items()})
            faults.append(f"a second run leaves other files than one run: {', '.join(different[:4])}")
        if faults:
            wrong += 1
            print(f"{name}: {KINDS[kind]} {number} of {counts[kind]} {EFFECTS[effect]}:", *faults, flush=True)
    numbers = ", ".join(f"{count} {kind}" for count, kind in zip(counts, KINDS, strict=True))
    seconds = time.monotonic() - started
    print(f"{name}: {numbers}: {wrong} of {len(todo)} failures wrong, {seconds:.0f} s", flush=True)
    return wrong


def faults_of_end(status: int, output: str, effect: int) -> Iterator[str]:
    """What is wrong with how a stage ended."""
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    if "Traceback" in output or "Exception ignored" in output:
        yield f"traceback: {output}"
    elif status == 1 and len(errors) != 1:
        yield f"{len(errors)} error lines: {output}"
    elif status not in (0, 1, *([-signal.SIGKILL] if effect == KILL else [])):
        yield f"ended with {status}: {output}"


def faults_of_files(trial: Path, whole: Set[tuple[str, str]]) -> Iterator[str]:
    """Files that are neither temporary nor complete. whole: name and hash of each file that is complete."""
    for name, digest in snapshot(trial, trial).items():
        if (name, digest) not in whole and not any(part.startswith(".") for part in Path(name).parts):
            yield f"half written: {name}"
    for checkpoint in trial.glob("checkpoints/*/*/[a-z]*.pt"):
        try:
            load_checkpoint(checkpoint)
        except UserError as error:
            yield str(error)


def main(folder: str, which: str, *names: str) -> None:
    base = Path(folder).resolve()
    needed = {*names, "toolchain"} if which == "few" else STAGES.keys()
    for stage in (stage for name, (stage, _) in STAGES.items() if name in needed):
        status, output = run(stage, base)
        assert status == 0, output
    most = {name: 1 if which == "few" else 4 * (name in TRACKED) for name in names}  # MLflow takes seconds
    sys.exit(1 if sum([try_stage(name, base, most[name]) for name in names]) else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
