"""Training: what it writes, how it is resumed, what it refuses, and that a library may call it."""

import json
import os
import random
import shutil
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import enter_folder, latest_checkpoint, only_error, run_stage, set_param, user_error, with_values
from tqdm import TMonitor

import pose
import stages.evaluate
import stages.train
from pose.data.formats.person_table import SOURCES, SPLITS
from pose.io.errors import Interrupted
from pose.models.weights import load_weights
from pose.tracking.base import NullTracker, RunInfo
from pose.training import trainer
from pose.training.checkpoint import load_checkpoint
from pose.training.data import TrainingData
from pose.training.lock import lock_folder
from pose.training.trainer import train

ADVERSARY = ["E_real", "E_fake", "k", "balance", "convergence"]


def check_history(folder: Path, task: str, terms: list[str], metrics: list[str], epochs: int) -> None:
    history = pd.read_csv(folder / f"metrics/plots/{task}/train.csv")
    assert list(history.columns) == ["step", "lr", *terms, "loss", *ADVERSARY]
    assert history[ADVERSARY].iloc[-1].notna().all()
    val = pd.read_csv(folder / f"metrics/plots/{task}/val.csv")
    assert list(val.columns)[: 2 + len(metrics)] == ["step", "epoch", *metrics]
    assert {f"train {name}" for name in metrics} <= set(val.columns)
    assert val["epoch"].tolist() == list(range(1, epochs + 1))


@pytest.mark.slow
def test_the_stages_write_weights_history_metrics_and_predictions(trained, params):
    check_history(trained, "advpose", ["heatmap"], ["PCKh@0.5", "PCK@0.2", "PCKh@0.1", "AUC"], 2)
    written = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    plots = (f"metrics/plots/advpose/{name}.csv" for name in ("train", "val", "joints", "accuracy"))
    models = (f"models/advpose/{name}.pt" for name in ("last", "best"))
    rest = ("metrics/advpose.json", "metrics/provenance/advpose.json", "predictions/advpose.h5")
    assert {*plots, *models, *rest} <= written
    run = latest_checkpoint(trained, "advpose").parent
    assert {path.name for path in run.iterdir()} >= {"latest.pt", "previous.pt", "finished"}
    assert len((run / "run_id").read_text()) == 32
    weights = load_weights(trained / "models/advpose/last.pt")
    assert weights.provenance["seed"] == params.seed
    assert weights.provenance["processes"] == 1
    scores = json.loads((trained / "metrics/advpose.json").read_text())
    summary = json.loads((trained / "metrics/summary/advpose.json").read_text())
    assert list(summary["advpose"]) == ["PCKh@0.5", "PCK@0.2", "PCKh@0.1", "AUC"]
    assert summary["advpose"]["PCKh@0.5"] == scores["PCKh"]["0.5"]


def test_a_run_of_several_people_writes_its_terms_and_equal_bits_twice(params, prepared_coco, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    found = [train(params, "advpose-ae", folder=folder, prepared=prepared_coco) for folder in folders]
    assert found[0] == found[1]
    assert {"AP", "AP50", "AR", "train AP", "best"} <= found[0].keys()
    terms = ["heatmap", "pull", "push"]
    check_history(tmp_path / "a", "advpose-ae", terms, ["AP", "AP50", "AR"], 2)
    for which in ("last", "best"):
        files = [folder / f"models/advpose-ae/{which}.pt" for folder in folders]
        assert files[0].read_bytes() == files[1].read_bytes()


# --- resuming ---


class RecordingTracker(NullTracker):
    """Keeps how runs began and ended."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def start(self, run: RunInfo) -> None:
        self.events.append((run.resumed, [row["step"] for row in run.history]))

    def finish(self, status: Any) -> None:
        self.events.append(status)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_that_is_asked_to_end_saves_first_and_ends_as_one_that_was_not(
    params, prepared, tmp_path, caplog, ema
):
    params = with_values(params, {"tasks.hgpose.ema": ema})
    settings: dict[str, Any] = {"prepared": prepared, "max_steps": 14}
    tracker, signals = RecordingTracker(), {3: signal.SIGTERM, 12: signal.SIGINT}
    handlers = [signal.getsignal(number) for number in signals.values()]

    def interrupt(step: int, _: Any) -> None:
        if number := signals.pop(step, None):
            signal.raise_signal(number)

    for saved in (4, 13):
        with pytest.raises(Interrupted):
            train(params, "hgpose", folder=tmp_path, tracker=tracker, on_step=interrupt, **settings)
        assert load_checkpoint(latest_checkpoint(tmp_path, "hgpose")).state["step"] == saved
        assert not (tmp_path / "models").exists()
    with user_error(r"latest\.pt is at step 13, beyond the 2 of this run; train"):
        train(params, "hgpose", folder=tmp_path, **settings | {"max_steps": 2})
    steps: list[int] = []
    settings["on_step"] = lambda step, _: steps.append(step)
    metrics = train(params, "hgpose", folder=tmp_path, tracker=tracker, **settings)
    assert steps == [14]
    assert "hgpose: resuming from step 13 of 14" in caplog.text
    assert tracker.events == [(False, []), "KILLED", (True, []), "KILLED", (True, [11]), "FINISHED"]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert metrics == train(params, "hgpose", folder=tmp_path / "undisturbed", **settings)
    for name in ("last.pt", "best.pt"):
        found, expected = (
            load_weights(folder / "models/hgpose" / name).tensors
            for folder in (tmp_path, tmp_path / "undisturbed")
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_epochs_may_be_raised_to_train_on(trained, tmp_path, monkeypatch, caplog):
    folder = Path(shutil.copytree(trained, tmp_path / "copy", symlinks=True))
    enter_folder(folder, monkeypatch)
    set_param(folder, "tasks.advpose.epochs", 3)
    train(pose.load_params(), "advpose")
    assert "resuming from step 22 of 33" in caplog.text
    assert pd.read_csv("metrics/plots/advpose/val.csv")["epoch"].tolist() == [1, 2, 3]
    assert "epochs was 2, is 3: the learning rate follows another schedule now" in caplog.text
    assert load_weights("models/advpose/last.pt").provenance["epochs"] == "2 then 3"


def test_a_finished_run_that_is_started_again_elsewhere_says_where_it_was_trained(
    params, prepared, tmp_path, monkeypatch
):
    settings: dict[str, Any] = {"folder": tmp_path, "prepared": prepared, "max_steps": 4}
    train(params, "hgpose", **settings)
    weights = tmp_path / "models/hgpose/last.pt"
    before, here = weights.read_bytes(), trainer.environment
    monkeypatch.setattr(trainer, "environment", lambda *args, **more: here(*args, **more) | {"torch": "9.0"})
    train(params, "hgpose", **settings)
    assert weights.read_bytes() == before
    train(params, "hgpose", **settings | {"max_steps": 2})
    assert load_checkpoint(latest_checkpoint(tmp_path, "hgpose")).state["step"] == 2, "fewer steps begin anew"


def test_a_run_that_was_interrupted_is_resumed_after_another_one(params, prepared, tmp_path, caplog):
    other = with_values(params, {"lr": 0.001})
    settings = {"folder": tmp_path, "prepared": prepared, "max_steps": 14}
    steps: list[int] = []

    def interrupt(step: int, _: Any) -> None:
        steps.append(step)
        if step == last:
            signal.raise_signal(signal.SIGTERM)

    for values, stop in ((params, 4), (other, 2)):
        last = stop
        with pytest.raises(Interrupted):
            train(values, "hgpose", on_step=interrupt, **settings)
    assert "is of another run: lr was 0.0" in caplog.text
    last = 0
    for values, done in ((params, 5), (other, 3)):  # a run that is asked to end does one more step
        steps.clear()
        train(values, "hgpose", on_step=interrupt, **settings)
        assert steps == list(range(done + 1, 15))


# --- what is refused ---


def test_a_second_writer_is_refused(params, prepared, tmp_path):
    with lock_folder(tmp_path / "checkpoints/hgpose"), user_error("is writing there already"):
        train(params, "hgpose", folder=tmp_path, prepared=prepared)


def test_an_image_too_small_to_be_normalised_alone_is_refused(params, prepared, tmp_path):
    params = with_values(params, {"tasks.hgpose.batch": 1})
    expected = r"^tasks.hgpose.batch: found 1 for 1 processes, expected 2 images for each or a larger input"
    with user_error(expected):
        train(params, "hgpose", folder=tmp_path, prepared=prepared)


@pytest.mark.slow
def test_mistakes_in_params_are_one_line(workspace, monkeypatch):
    set_param(workspace, "lr", "fast")
    line = only_error(run_stage("train", "hgpose", folder=workspace))
    assert line == "error: params.yaml: lr: found 'fast', input should be a valid number"
    enter_folder(workspace, monkeypatch)
    set_param(workspace, "lr", 0.001)
    with user_error("no task 'dance'"):
        stages.train.main("dance")
    set_param(workspace, "tasks.hgpose.batch", 1000)
    with user_error(r"expected at least tasks.hgpose.batch = 1000"):
        stages.train.main("hgpose")
    with user_error(r"models/hgpose/last.pt: no such file"):
        stages.evaluate.main("hgpose")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("head_size", np.nan, "8 people held out of training have no head size, .* mpii_human"),
        ("split", SPLITS.index("train"), r"no people held out of training, .*\(prepare.lsp_held_out, "),
    ],
)
def test_people_that_cannot_be_validated_on_are_named_before_training(
    params, prepared, tmp_path, column, value, message
):
    path = tmp_path / "people.h5"
    shutil.copy(prepared, path)
    with h5py.File(path, "r+") as file:
        file["source"][:] = SOURCES.index("mpii")
    assert len(TrainingData.load(params, "hgpose", processes=1, prepared=path).val)
    with h5py.File(path, "r+") as file:
        file[column][:] = value
    with user_error(message):
        TrainingData.load(params, "hgpose", processes=1, prepared=path)


# --- called as a function ---


def global_state() -> list[Any]:
    return [
        *(torch.get_num_threads(), cv2.getNumThreads(), torch.are_deterministic_algorithms_enabled()),
        *(torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark),
        *(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), torch.is_grad_enabled()),
        *(torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),
        *(torch.distributed.is_initialized(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")),
    ]


def test_a_tuner_may_train_again_and_again_in_one_process_and_only_its_folders_change(
    params, prepared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def objective(lr: float) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            tried = params.model_copy(update={"lr": lr})
            return train(tried, "hgpose", folder=folder, prepared=prepared, max_steps=5)

    params = with_values(params, {"train.deterministic": True, "train.threads": 1})
    torch.set_num_threads(2)
    try:
        before, threads = global_state(), {*threading.enumerate()}
        found = [objective(lr) for lr in (0.001, 0.01, 0.001)]
        assert global_state() == before
        left = {*threading.enumerate()} - threads  # those of earlier tests may have ended
        assert not [one for one in left if not isinstance(one, TMonitor)]  # tqdm has one for the process
    finally:
        torch.set_num_threads(1)
    assert found[0] == found[2]
    assert found[0].keys() >= {"PCKh@0.5", "train PCKh@0.5", "best"}
    assert list(tmp_path.iterdir()) == []


def test_a_thread_trains_as_the_main_thread_does_and_two_of_them_at_once(
    params, prepared, prepared_coco, tmp_path
):
    sources = {"hgpose": prepared, "hgpose-ae": prepared_coco}
    with ThreadPoolExecutor() as pool:
        runs = {
            task: pool.submit(train, params, task, folder=tmp_path / "thread", prepared=source, max_steps=6)
            for task, source in sources.items()
        }
        metrics = {task: run.result() for task, run in runs.items()}
    for task, source in sources.items():
        assert metrics[task] == train(params, task, folder=tmp_path, prepared=source, max_steps=6)


def test_what_a_callback_raises_ends_the_training_and_the_next_start_is_resumed(
    params, prepared, tmp_path, caplog
):
    def prune(step: int, terms: Any) -> None:
        assert {"heatmap", "loss"} <= terms.keys()
        if step == 8:
            raise LookupError("pruned")

    with pytest.raises(LookupError, match="pruned"):
        train(params, "hgpose", folder=tmp_path, prepared=prepared, max_steps=9, on_step=prune)
    train(params, "hgpose", folder=tmp_path, prepared=prepared, max_steps=9)
    assert "resuming from step 5 of 9" in caplog.text
