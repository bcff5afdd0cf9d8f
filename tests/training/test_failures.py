"""What goes wrong while training: one line says what, and no checkpoint is lost. Real disks and signals."""

import math
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import latest_checkpoint, user_error, wait_until, with_values

from pose.data.batch import Batch
from pose.data.prepared_set import annotation_file
from pose.io.errors import UserError
from pose.params import Params
from pose.tasks.base import Terms
from pose.tasks.task import Task
from pose.training.checkpoint import load_checkpoint
from pose.training.data import TrainingData
from pose.training.trainer import train


@pytest.fixture
def eager(params: Params) -> Params:
    """Parameters of long training with a checkpoint after every step."""
    changes = {"train.checkpoint_every": 1, "tasks.hgpose.epochs": 40, "tasks.hgpose-ae.epochs": 40}
    return with_values(params, changes)


def at_step(number: int, action: Callable[[], object]) -> Callable[[int, object], None]:
    def on_step(step: int, _: object) -> None:
        if step == number:
            action()

    return on_step


def saved_step(folder: Path, task: str = "hgpose") -> int:
    return load_checkpoint(latest_checkpoint(folder, task)).state["step"]


def test_a_loss_that_is_no_number_is_named_at_its_step(eager, prepared, tmp_path, monkeypatch):
    step = Task.step

    def spoilt(task: Task, batch: Batch, *, done: int, steps: int) -> Terms:
        """The real step; the images of the fourth are no numbers."""
        if done == 3:
            images = tuple(image * math.nan for image in batch.inputs.images)
            batch = replace(batch, inputs=replace(batch.inputs, images=images))
        return step(task, batch, done=done, steps=steps)

    monkeypatch.setattr(Task, "step", spoilt)
    expected = r"^hgpose: heatmap is nan at step 4, of .*\(row \d+\), .*\(row \d+\)"
    with user_error(expected):
        train(eager, "hgpose", folder=tmp_path, prepared=prepared)
    assert saved_step(tmp_path) == 3


def test_weights_that_are_not_finite_are_never_saved(eager, prepared, tmp_path):
    optimizer = {"name": "rmsprop", "weight_decay": 0.0}
    params = with_values(eager, {"tasks.hgpose.schedule.warmup": 0.0, "tasks.hgpose.optimizer": optimizer})
    params = params.model_copy(update={"lr": 3e38})  # more than the schema allows
    with user_error(r"^hgpose: weights are not finite after step 1, of "):
        train(params, "hgpose", folder=tmp_path, prepared=prepared)
    assert not list(tmp_path.rglob("latest.pt"))


def kill_new_child(before: set[int]) -> None:
    [worker] = [child for child in psutil.Process().children() if child.pid not in before]
    worker.send_signal(signal.SIGKILL)
    wait_until(lambda: False, seconds=20)  # where torch's handler finds us


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_a_run_whose_loader_worker_died_is_resumed(eager, prepared, tmp_path, caplog):
    before, params = children(), with_values(eager, {"train.workers": 1})
    kill = at_step(3, lambda: kill_new_child(before))
    with user_error(r"^DataLoader worker \(pid.*train\.workers"):
        train(params, "hgpose", folder=tmp_path, prepared=prepared, on_step=kill)
    assert saved_step(tmp_path) == 2
    train(with_values(eager, {"tasks.hgpose.epochs": 1}), "hgpose", folder=tmp_path, prepared=prepared)
    assert "resuming from step 2 " in caplog.text


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(eager, prepared, tmp_path):
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        latest = latest_checkpoint(tmp_path, "hgpose")
        # There is no disk to fill: files may not grow beyond half of a checkpoint, which fails in the same
        # places.
        resource.setrlimit(resource.RLIMIT_FSIZE, (latest.stat().st_size // 2, hard))

    try:
        with pytest.raises(UserError) as error:
            train(eager, "hgpose", folder=tmp_path, prepared=prepared, on_step=at_step(3, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    latest = latest_checkpoint(tmp_path, "hgpose")
    stays = "the checkpoint before it is kept, and the same command resumes from there"
    assert str(error.value) == f"{latest}: cannot be written (File too large); {stays}"
    assert saved_step(tmp_path) == 2
    assert not list(latest.parent.glob(".[0-9]*.*"))


def test_annotations_that_vanish_while_training_are_named(eager, prepared_coco, tmp_path):
    prepared = Path(shutil.copytree(prepared_coco, tmp_path / "coco"))
    file = annotation_file(prepared, "train")
    epoch = TrainingData.load(eager, "hgpose-ae", processes=1, prepared=prepared).steps_per_epoch
    with user_error(f"^{file}: "):
        train(eager, "hgpose-ae", folder=tmp_path, prepared=prepared, on_step=at_step(1, file.unlink))
    assert saved_step(tmp_path, "hgpose-ae") == epoch - 1


def test_a_prepared_file_that_is_cut_short_while_training_is_named(eager, prepared, tmp_path):
    file = Path(shutil.copy(prepared, tmp_path))
    params = with_values(eager, {"train.workers": 1})
    cut = at_step(1, lambda: os.truncate(file, file.stat().st_size // 8))
    with user_error(str(file)):
        train(params, "hgpose", folder=tmp_path, prepared=file, on_step=cut)
    assert saved_step(tmp_path) >= 1
