"""What goes wrong while training: one line that says what, and nothing that was saved is lost. Real processes, disks and signals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from test_training import change, only_error, ours, run, start, workspace

from pose.checkpoint import load_state
from pose.data.coco import annotation_file

__all__ = ["workspace"]


def step_of(state: Path) -> int:
    return load_state(state)["progress"]["step"]


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(process: subprocess.Popen) -> str:
    """The one error of a process that must end by itself."""
    out, err = process.communicate(timeout=120)
    return only_error((process.returncode, out, err))


@pytest.fixture
def training(workspace: Path) -> Path:
    """A folder in which hgpose and hgpose-ae train for long, and write a state at every step."""
    for key, value in {"tasks.hgpose.epochs": 4000, "tasks.hgpose-ae.epochs": 4000, "train.checkpoint_every": 1}.items():
        change(workspace, key, value)
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_no_number_ends_training_and_names_the_term_the_step_and_the_samples(training: Path, processes: int):
    change(training, "lr", 1e38)
    change(training, "train.processes", processes)
    _, _, err = done = run("train", "hgpose", folder=training)
    assert done[0] == 1
    assert "Traceback" not in err
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    state = training / "checkpoints/hgpose/state.pt"
    last = step_of(state) if state.exists() else 0
    assert line.startswith("error: hgpose: heatmap is ")
    assert f" at step {last + 1}, of " in line  # the state before that stays
    assert line.count("(row ") == 4  # the whole batch, on whichever process


@pytest.mark.slow
def test_a_loader_worker_that_dies_is_one_line_and_the_run_goes_on_afterwards(training: Path):
    change(training, "train.workers", 1)
    state = training / "checkpoints/hgpose/state.pt"
    process = start("train", "hgpose", folder=training)
    until(state.exists)
    [worker] = [child for child in psutil.Process(process.pid).children() if child.cmdline()[:1] == [sys.executable]]
    worker.send_signal(signal.SIGKILL)
    line = ended(process)
    assert "DataLoader worker (pid" in line
    assert "train.workers" in line
    step = step_of(state)
    change(training, "train.workers", 0)
    process = start("train", "hgpose", folder=training)
    until(lambda: step_of(state) > step)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert f"goes on from step {step} " in out


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_last_state_stays(training: Path):
    state = training / "checkpoints/hgpose/state.pt"
    process = start("train", "hgpose", folder=training)
    until(state.exists)
    process.terminate()
    process.communicate(timeout=60)
    step = step_of(state)
    # No disk of our own to fill: files may not grow beyond a size that the state is larger than, which fails in the same places.
    most = state.stat().st_size // 2
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "hgpose"],
        cwd=training,
        env=ours(),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    line = only_error((done.returncode, done.stdout, done.stderr))
    assert "checkpoints/hgpose/state.pt: cannot be written (File too large); what was saved before stays" in line
    assert step_of(state) == step
    assert not list(state.parent.glob(".[0-9]*.*"))


@pytest.mark.slow
def test_annotations_that_vanish_while_training_are_named(training: Path, prepared_coco: Path):
    (training / "data/prepared/coco").unlink()
    shutil.copytree(prepared_coco, training / "data/prepared/coco")
    change(training, "train.validate_every", 10)
    process = start("train", "hgpose-ae", folder=training)
    until((training / "checkpoints/hgpose-ae/state.pt").exists)
    file = annotation_file(training / "data/prepared/coco", "train")
    file.unlink()
    assert f"error: {file.relative_to(training)}: " in ended(process)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_prepared_file_that_is_cut_short_while_training_is_named(training: Path, prepared: Path, workers: int):
    file = training / "data/prepared/lsp_mpii.h5"
    file.unlink()
    shutil.copyfile(prepared, file)
    change(training, "train.workers", workers)
    process = start("train", "hgpose", folder=training)
    until((training / "checkpoints/hgpose/state.pt").exists)
    os.truncate(file, file.stat().st_size // 8)
    assert "data/prepared/lsp_mpii.h5" in ended(process)
