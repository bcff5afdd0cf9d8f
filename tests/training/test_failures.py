"""What goes wrong while training.

One line that says what, and nothing that was saved is lost. Real processes, disks and signals.
"""

from __future__ import annotations

import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import (
    clean_environment,
    enter_folder,
    only_error,
    run_stage,
    set_param,
    start_stage,
    with_values,
)
from torch.utils.data import Dataset

from pose.data.image_set import annotation_file
from pose.data.loader import Loader, raise_on_dead_worker
from pose.data.single_samples import Batch
from pose.io.errors import UserError
from pose.models.weights import load_checkpoint
from pose.params import Params, load_params
from pose.tasks.base import Terms
from pose.tasks.task import Task
from pose.tracking.base import NullTracker
from pose.training.trainer import train


def step_of(state: Path) -> int:
    return load_checkpoint(state)["progress"]["step"]


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
    for key, value in {
        "tasks.hgpose.epochs": 4000,
        "tasks.hgpose-ae.epochs": 4000,
        "train.checkpoint_every": 1,
    }.items():
        set_param(workspace, key, value)
    return workspace


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_training_and_on_two_processes_at_once(training: Path):
    set_param(training, "lr", 1e38)
    set_param(training, "train.processes", 2)
    _, _, err = done = run_stage("train", "hgpose", folder=training)
    assert done[0] == 1
    assert "Traceback" not in err
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    assert re.match(
        r"error: hgpose: (heatmap is (nan|-?inf) at|weights are not finite after) step \d+, of ", line
    )
    assert line.count("(row ") == 4  # the whole batch, on whichever process
    state = training / "checkpoints/hgpose/latest.pt"
    if state.exists():  # a state that stays is one that training can go on from
        assert all(tensor.isfinite().all() for tensor in load_checkpoint(state)["net"].values())


def test_a_loss_that_is_no_number_is_named_at_its_step(
    params: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    step = Task.step

    def spoilt(task: Task, batch: Batch, *, done: int, steps: int) -> Terms:
        """The real step; the pictures of the fourth are no numbers."""
        image_B3HW = batch.image_B3HW * (math.nan if done == 3 else 1)
        return step(task, replace(batch, image_B3HW=image_B3HW), done=done, steps=steps)

    monkeypatch.setattr(Task, "step", spoilt)
    params = with_values(params, {"train.processes": 1, "train.checkpoint_every": 1})
    with pytest.raises(
        UserError, match=r"^hgpose: heatmap is nan at step 4, of .*\(row \d+\), .*\(row \d+\)"
    ) as error:
        train(params, "hgpose", prepared=prepared, record=NullTracker())
    assert "\n" not in str(error.value)
    assert step_of(Path("checkpoints/hgpose/latest.pt")) == 3


def test_weights_that_are_not_finite_are_never_saved(
    params: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    params = with_values(
        params,
        {"train.processes": 1, "train.checkpoint_every": 1, "lr": 3e38, "tasks.hgpose.schedule.warmup": 0.0},
    )
    with pytest.raises(UserError, match=r"^hgpose: weights are not finite after step 1, of "):
        train(params, "hgpose", prepared=prepared, record=NullTracker())
    assert not Path("checkpoints/hgpose/latest.pt").exists()


class Slow(Dataset):
    """Whose batches are numbers, and come at once."""

    def __getitems__(self, keys: list) -> list:
        return keys


def test_a_worker_that_dies_while_the_step_is_computed_is_named_too():
    def steps() -> None:
        others = psutil.Process().children()
        for _ in Loader(Slow(), [[(0, number)] for number in range(1000)], workers=1):
            [worker] = [child for child in psutil.Process().children() if child not in others]
            worker.send_signal(signal.SIGKILL)
            until(lambda: False, seconds=20)  # where torch's handler finds us

    with pytest.raises(UserError, match=r"^DataLoader worker \(pid"), raise_on_dead_worker():
        steps()


@pytest.mark.slow
def test_a_loader_worker_that_dies_is_one_line_and_the_run_goes_on_afterwards(training: Path):
    set_param(training, "train.workers", 1)
    state = training / "checkpoints/hgpose/latest.pt"
    process = start_stage("train", "hgpose", folder=training)
    until(state.exists)
    [worker] = [
        child for child in psutil.Process(process.pid).children() if child.cmdline()[:1] == [sys.executable]
    ]
    worker.send_signal(signal.SIGKILL)
    line = ended(process)
    assert "DataLoader worker (pid" in line
    assert "train.workers" in line
    step = step_of(state)
    set_param(training, "train.workers", 0)
    process = start_stage("train", "hgpose", folder=training)
    until(lambda: step_of(state) > step)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert f"goes on from step {step} " in out


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_last_state_stays(training: Path, monkeypatch: pytest.MonkeyPatch):
    enter_folder(training, monkeypatch)
    state = training / "checkpoints/hgpose/latest.pt"
    set_param(training, "tasks.hgpose.epochs", 1)
    train(load_params(), "hgpose", record=NullTracker())
    step = step_of(state)
    set_param(training, "tasks.hgpose.epochs", 4000)
    # No disk of our own to fill: files may not grow beyond a size that the state is larger than, which fails
    # in the same places.
    most = state.stat().st_size // 2
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "hgpose"],
        cwd=training,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    line = only_error((done.returncode, done.stdout, done.stderr))
    assert (
        "checkpoints/hgpose/latest.pt: cannot be written (File too large); what was saved before stays"
        in line
    )
    assert step_of(state) == step
    assert not list(state.parent.glob(".[0-9]*.*"))


@pytest.mark.slow
def test_annotations_that_vanish_while_training_are_named(training: Path, prepared_coco: Path):
    (training / "data/prepared/coco").unlink()
    shutil.copytree(prepared_coco, training / "data/prepared/coco")
    set_param(training, "train.validate_every", 10)
    process = start_stage("train", "hgpose-ae", folder=training)
    until((training / "checkpoints/hgpose-ae/latest.pt").exists)
    file = annotation_file(training / "data/prepared/coco", "train")
    file.unlink()
    assert f"error: {file.relative_to(training)}: " in ended(process)


@pytest.mark.slow
def test_a_prepared_file_that_is_cut_short_while_training_is_named(training: Path, prepared: Path):
    file = training / "data/prepared/lsp_mpii.h5"
    file.unlink()
    shutil.copyfile(prepared, file)
    set_param(training, "train.workers", 1)
    process = start_stage("train", "hgpose", folder=training)
    until((training / "checkpoints/hgpose/latest.pt").exists)
    os.truncate(file, file.stat().st_size // 8)
    assert "data/prepared/lsp_mpii.h5" in ended(process)
