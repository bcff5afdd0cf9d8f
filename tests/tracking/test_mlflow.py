"""Runs in MLflow: what is kept, what a restart goes on with, and what happens where the store fails.

With real stores.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib.figure
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, write_active_weights, write_initial_weights
from mlflow.entities import Run

import pose.tracking.mlflow
from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg
from pose.keypoints.skeleton import COCO
from pose.params import Params
from pose.tracking.mlflow import Tracker, Value, log_evaluation, metric_name
from pose.tracking.store import store_uri
from pose.training.loop import Interrupted

PARAMS = {"lr": 0.00025, "hgpose.adversary": None, "hgpose.network.stem": [16, 32, 32]}
WEIGHTS = "a" * 32  # a hash
PICTURES = np.random.default_rng(0).integers(0, 255, (3, 48, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without an experiment, to be copied: its tables take seconds to make."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def store(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a store in it, which the tests share, each with runs of its own."""
    folder = tmp_path_factory.mktemp("work space")
    shutil.copy(tables, folder)
    return folder


@pytest.fixture(autouse=True)
def workspace(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(store))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for use as they are before training."""
    return write_initial_weights(params, "hgpose", tmp_path_factory.mktemp("models"))


def begin(
    run_id: str | None = None, unsent: Iterable[Value] = (), id_file: Path | None = None, **changes: Any
) -> Tracker:
    return Tracker.start(
        "hgpose", PARAMS | changes, run_id=run_id, data_hash="d41d8cd9", unsent=unsent, id_file=id_file
    )


def stored(run_id: str | None) -> Run:
    assert run_id is not None
    return mlflow.MlflowClient(store_uri()).get_run(run_id)


def curve(run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    return [
        (metric.step, metric.value)
        for metric in mlflow.MlflowClient(store_uri()).get_metric_history(run_id, name)
    ]


def test_the_store_is_that_of_the_real_workspace_unless_the_environment_says_otherwise(
    store, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert store_uri() == f"sqlite:///{store}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert store_uri() == "http://example.org:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert store_uri() == f"sqlite:///{store}/mine.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("DVC_ROOT")
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_run_holds_parameters_curves_tags_and_figures(store, monkeypatch):
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.setenv(name, name.lower())
    with begin() as tracker:
        run_id = str(tracker.run_id)
        for step in range(1, 4):
            tracker.log({"heatmap": 1 / step}, step)
        tracker.log({"PCKh@0.5": 60.0, "AUC": float("nan")}, 3)
        figure = matplotlib.figure.Figure()
        figure.subplots().plot([1, 2])
        tracker.figure(figure, "curves.png")
    run = stored(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "hgpose dvc_exp_name"
    assert run.data.params == {
        "lr": "0.00025",
        "hgpose.adversary": "None",
        "hgpose.network.stem": "[16, 32, 32]",
    }
    assert curve(run_id, "heatmap") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert curve(run_id, "PCKh_at_0.5") == [(3, 60.0)]
    assert "AUC" not in run.data.metrics
    tags = {
        "task": "hgpose",
        "data_hash": "d41d8cd9",
        "DVC_EXP_NAME": "dvc_exp_name",
        "DVC_STAGE": "dvc_stage",
    }
    assert tags.items() <= run.data.tags.items()
    assert (store / "mlruns" / run_id / "artifacts/figures/curves.png").stat().st_size > 1000


def test_a_run_knows_the_revision_and_whether_it_was_changed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for name in ("params.yaml", "dvc.lock", "metrics/hgpose.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("lr: 1\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    for changed, dirty in (
        ("", "false"),
        ("dvc.lock", "false"),
        ("metrics/hgpose.json", "false"),
        ("params.yaml", "true"),
    ):
        if changed:
            (tmp_path / changed).write_text("lr: 2\n")
        tracker = begin()
        run_id = tracker.run_id
        tracker.finish()
        assert {"git_revision": head, "git_dirty": dirty}.items() <= stored(run_id).data.tags.items()


def test_names_that_mlflow_refuses_are_changed():
    assert metric_name("PCKh@0.5") == "PCKh_at_0.5"
    assert metric_name("test/PCKh/Mean (14)") == "test/PCKh/Mean _14_"


def test_a_restart_goes_on_with_its_run_and_keeps_repeated_steps_once():
    first = begin()
    run_id = first.run_id
    for step in range(1, 6):
        first.log({"heatmap": float(step)}, step)
    first.finish("KILLED")
    assert stored(run_id).info.status == "KILLED"
    again = begin(run_id)
    assert again.run_id == run_id
    for step in range(4, 8):  # the resume state was from step 3
        again.log({"heatmap": float(step)}, step)
    again.finish()
    assert curve(run_id, "heatmap") == [(step, float(step)) for step in range(1, 8)]
    assert stored(run_id).info.status == "FINISHED"


def test_other_parameters_begin_a_new_run_that_names_the_earlier_one(capfd):
    with begin() as first:
        first.log({"heatmap": 1.0}, 1)
    with begin(first.run_id, lr=0.1) as second:
        second.log({"heatmap": 2.0}, 2)
    assert capfd.readouterr().err == (
        f"tracking: run {first.run_id} has other parameters (lr was 0.00025, is 0.1); a new one begins here\n"
    )
    assert stored(second.run_id).data.params["lr"] == "0.1"
    assert stored(second.run_id).data.tags["resumed_from"] == first.run_id
    assert stored(first.run_id).data.params["lr"] == "0.00025"
    assert curve(first.run_id, "heatmap") == [(1, 1.0)]
    assert curve(second.run_id, "heatmap") == [(2, 2.0)]


@pytest.mark.parametrize("known", ["0" * 32, "not an id", "deleted"])
def test_a_run_that_is_gone_is_followed_by_a_new_one(known, capfd):
    if known == "deleted":
        with begin() as first:
            known = str(first.run_id)
        mlflow.MlflowClient(store_uri()).delete_run(known)
    with begin(known) as second:
        second.log({"heatmap": 2.0}, 2)
    gone = (
        f"tracking: run {known} is gone; a new one begins here, what was before is in metrics/plots/hgpose\n"
    )
    assert capfd.readouterr().err == gone
    assert curve(second.run_id, "heatmap") == [(2, 2.0)]


def test_a_step_is_kept_once_however_often_it_is_logged():
    with begin() as tracker:
        for step in (1, 2, 2, 1, 3):
            tracker.log({"heatmap": float(step)}, step)
    assert curve(tracker.run_id, "heatmap") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_tags_are_kept_from_the_beginning_and_added_later():
    with Tracker.start(
        "hgpose", PARAMS, run_id=None, data_hash="d41d8cd9", tags={"device": "cpu"}
    ) as tracker:
        assert stored(tracker.run_id).data.tags["device"] == "cpu"
        tracker.tag(weights_last="abc", weights_best="def")
    assert {"device": "cpu", "weights_last": "abc", "weights_best": "def"}.items() <= stored(
        tracker.run_id
    ).data.tags.items()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (Interrupted, "KILLED"), (KeyboardInterrupt, "KILLED")]
)
def test_how_a_run_ended_is_its_status(error, status):
    tracker = begin()
    run_id = tracker.run_id
    with pytest.raises(error), tracker:
        raise error
    assert stored(run_id).info.status == status


def test_a_deleted_experiment_is_brought_back():
    with begin() as tracker:
        experiment = stored(tracker.run_id).info.experiment_id
    mlflow.MlflowClient(store_uri()).delete_experiment(experiment)
    with begin() as tracker:
        assert tracker.run_id


def test_more_parameters_and_values_than_mlflow_takes_at_once_are_kept():
    tracker = begin(**{f"many.{number}": number for number in range(250)})
    for step in range(2500):
        tracker.log({"loss": 1.0}, step)
    run_id = tracker.run_id
    tracker.finish()
    assert len(stored(run_id).data.params) == 253
    assert len(curve(run_id, "loss")) == 2500


def test_the_system_is_watched_until_the_run_ends_and_again_after_a_restart(monkeypatch):
    monkeypatch.setattr(pose.tracking.mlflow, "SYSTEM_SECONDS", 0.05)
    run_id = None
    for _ in range(2):
        tracker = begin(run_id)
        run_id, watcher = (
            tracker.run_id,
            [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"],
        )
        watcher[0].join(0.5)
        tracker.finish()
        assert not watcher[0].is_alive()
    samples = curve(run_id, "system/system_memory_usage_megabytes")
    assert [step for step, _ in samples] == list(range(len(samples)))
    assert len(samples) > 1


def test_a_store_out_of_reach_costs_two_lines_and_no_training(monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with begin() as tracker:
        for step in range(1000):
            tracker.log({"loss": 1.0}, step)
        tracker.flush()
        tracker.figure(matplotlib.figure.Figure(), "curves.png")
        assert tracker.run_id is None
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("tracking: http://127.0.0.1:9 cannot be written to (")
    assert lines[0].endswith('Connection refused"); training goes on, its values wait')
    left = "tracking: 1,000 values, curves.png could not be written to http://127.0.0.1:9; the history is in metrics/plots/hgpose"
    assert lines[1] == left


def a_folder(path: Path) -> None:
    path.mkdir()


def another_file(path: Path) -> None:
    path.write_text("this is no database" * 1000)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(a_folder, "unable to open database file"), (another_file, "file is not a database")],
)
def test_a_run_begins_as_soon_as_its_store_can_be_written_to(
    spoil, reason, tables, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    id_file = tmp_path / "run_id"
    spoil(tmp_path / "mlflow.db")
    first = begin(id_file=id_file)
    for step in range(1, 6):
        first.log({"heatmap": float(step)}, step)
    unsent = first.unsent()  # as a resume state has it
    assert first.run_id is None
    assert id_file.read_text() == ""
    (tmp_path / "mlflow.db").rename(tmp_path / "spoilt")
    shutil.copy(tables, tmp_path)
    first.flush(now=True)
    first.finish("KILLED")
    assert id_file.read_text() == first.run_id
    again = begin(None, unsent, id_file)  # from that state
    assert again.run_id == first.run_id
    for step in range(6, 8):
        again.log({"heatmap": float(step)}, step)
    again.finish()
    assert curve(first.run_id, "heatmap") == [(step, float(step)) for step in range(1, 8)]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert capfd.readouterr().err.splitlines() == [
        f"tracking: {uri} cannot be written to ({reason}); training goes on, its values wait",
        f"tracking: {uri} can be written to again; what waited is there, 5 values",
    ]


def test_values_that_were_never_written_are_given_to_the_next_process(monkeypatch, tmp_path):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}")
        with begin() as first:
            first.log({"heatmap": 1.0}, 1)
    torch.save(first.unsent(), tmp_path / "state.pt")
    with begin(None, torch.load(tmp_path / "state.pt", weights_only=True), tmp_path / "run_id") as again:
        again.log({"heatmap": 2.0}, 2)
    assert curve(again.run_id, "heatmap") == [(1, 1.0), (2, 2.0)]


def test_values_wait_for_a_store_that_fails_for_a_while(store, capfd):
    tracker = begin()
    run_id = tracker.run_id
    with broken(store / "mlflow.db"):
        for step in range(1200):
            tracker.log({"loss": 1.0}, step)
        assert len(capfd.readouterr().err.splitlines()) == 1
    tracker.finish()
    assert len(curve(run_id, "loss")) == 1200
    assert capfd.readouterr().err.endswith("can be written to again; what waited is there, 1,200 values\n")


def test_the_oldest_of_too_many_waiting_values_go_with_a_warning(monkeypatch, capfd):
    monkeypatch.setattr(pose.tracking.mlflow, "MOST_WAITING", 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with begin() as tracker:
        for step in range(150):
            tracker.log({"loss": 1.0}, step)
        assert [step for _, _, _, step in tracker.unsent()] == list(range(50, 150))
    assert "more than 100 values wait; the oldest are left out" in capfd.readouterr().err.splitlines()[1]


def test_a_model_that_cannot_be_kept_costs_one_line(capfd):
    with begin() as tracker:
        tracker.model("nothing")
        tracker.log({"loss": 1.0}, 1)
    assert curve(tracker.run_id, "loss") == [(1, 1.0)]
    assert capfd.readouterr().err.count("\n") == 1


# A training from its state to a step: saves every tenth, as pose.training.trainer does, and perishes as it is
# told.
TRAINING = """
import os, resource, signal, sys
from pathlib import Path
import torch
from pose.tracking.mlflow import Tracker
state_file, last, end = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
state = torch.load(state_file, weights_only=True) if state_file.exists() else {"step": 0, "run_id": None, "unsent": []}
tracker = Tracker.start("hgpose", {"lr": 0.1}, run_id=state["run_id"], data_hash="0", unsent=state["unsent"])
if end == "disk full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # less than the pages that a batch touches
for step in range(state["step"] + 1, last + 1):
    tracker.log({"loss": 1 / step} | ({"AP": step / 100} if step % 5 == 0 else {}), step)
    if step % 10 == 0:
        tracker.flush()
        if step == last and end == "before its state is saved":
            os.kill(os.getpid(), signal.SIGKILL)
        torch.save({"step": step, "run_id": tracker.run_id, "unsent": tracker.unsent()}, state_file)
if end:
    os.kill(os.getpid(), signal.SIGKILL)
tracker.finish()
"""


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_has_each_step_once(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = []
    for last, end in ((20, "before its state is saved"), (33, "disk full"), (50, "")):
        command = [sys.executable, "-c", TRAINING, str(tmp_path / "state.pt"), str(last), end]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert done.returncode == (-signal.SIGKILL if end else 0), done.stderr
        said.append(done.stderr.splitlines())
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert (state["step"], len(state["unsent"])) == {20: (10, 0), 33: (30, 12), 50: (50, 0)}[last]
    assert [len(lines) for lines in said] == [0, 1, 0]
    assert curve(state["run_id"], "loss") == [(step, 1 / step) for step in range(1, 51)]
    assert curve(state["run_id"], "AP") == [(step, step / 100) for step in range(5, 51, 5)]
    assert stored(state["run_id"]).info.status == "FINISHED"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, with all its processes in a group of their own."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--workers",
        "1",
    ]
    command += [
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        for _ in range(240):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                break
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.5)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_that_comes_late_then_falls_silent_and_ends_before_training_has_each_step_once(
    tables, tmp_path, monkeypatch, capfd
):
    uri = f"http://127.0.0.1:{(port := free_port())}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(pose.tracking.mlflow, "RETRY_SECONDS", 0.0)
    steps = iter(range(1, 10_000))

    def train(count: int) -> None:
        for step in islice(steps, count):
            tracker.log({"loss": 1 / step}, step)

    tracker = begin(id_file=tmp_path / "run_id")
    train(700)
    assert tracker.run_id is None
    shutil.copy(tables, tmp_path)
    with server(port, tmp_path) as process:
        tracker.flush(now=True)
        assert tracker.unsent() == []
        assert (tmp_path / "run_id").read_text() == tracker.run_id
        train(100)
        with monkeypatch.context() as impatient:
            impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            os.killpg(process.pid, signal.SIGSTOP)
            tracker.flush(now=True)
            train(100)
            assert len(tracker.unsent()) == 200
        os.killpg(
            process.pid, signal.SIGCONT
        )  # it goes on with what it was asked while nobody waits for the answer
        tracker.flush(now=True)
        tracker.tag(weights_last=WEIGHTS)
        tracker.flush(now=True)
        log_evaluation(tmp_path / "run_id", {"PCKh": {"0.5": 71.0}}, weights=WEIGHTS)
        figure = matplotlib.figure.Figure()
        tracker.figure(figure, "curves.png")
        assert curve(tracker.run_id, "loss") == [(step, 1 / step) for step in range(1, 901)]
        assert stored(tracker.run_id).data.params["lr"] == "0.00025"
        assert stored(tracker.run_id).data.metrics["test/PCKh/0.5"] == 71.0
        assert [
            file.path for file in mlflow.MlflowClient().list_artifacts(str(tracker.run_id), "figures")
        ] == ["figures/curves.png"]
    train(50)
    unsent = tracker.unsent()
    tracker.finish()
    assert [
        line.split(" (")[0].removeprefix("tracking: ") for line in capfd.readouterr().err.splitlines()
    ] == [
        f"{uri} cannot be written to",
        f"{uri} can be written to again; what waited is there, 700 values",
        f"{uri} cannot be written to",
        f"{uri} can be written to again; what waited is there, 200 values",
        f"{uri} cannot be written to",
        f"50 values could not be written to {uri}; the history is in metrics/plots/hgpose",
    ]
    assert len(unsent) == 50
    # A restart, this time with the server's own file.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with begin(tracker.run_id, unsent) as tracker:
        train(50)
    assert curve(tracker.run_id, "loss") == [(step, 1 / step) for step in range(1, 1001)]


class broken:
    """A database without its table of values."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        self._rename("metrics", "gone")

    def __exit__(self, *_: object) -> None:
        self._rename("gone", "metrics")

    def _rename(self, old: str, new: str) -> None:
        with sqlite3.connect(self.path, timeout=20) as database:
            database.execute("PRAGMA legacy_alter_table = ON")
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_figures_of_the_evaluation_are_added_to_the_run(tmp_path, capfd):
    with begin() as tracker:
        (tmp_path / "run_id").write_text(tracker.run_id or "")
        tracker.tag(weights_last="0" * 32, weights_best=WEIGHTS)
    for _ in range(2):
        log_evaluation(
            tmp_path / "run_id",
            {"PCKh": {"0.5": 71.0, "Mean@0.1": 20.0, "AUC": float("nan")}},
            weights=WEIGHTS,
        )
    log_evaluation(tmp_path / "missing", {"PCKh": {"0.5": 71.0}}, weights=WEIGHTS)
    run = stored((tmp_path / "run_id").read_text())
    assert {key: value for key, value in run.data.metrics.items() if key.startswith("test/")} == {
        "test/PCKh/0.5": 71.0,
        "test/PCKh/Mean_at_0.1": 20.0,
    }
    assert curve(run.info.run_id, "test/PCKh/0.5") == [(0, 71.0)]
    assert run.info.status == "FINISHED"
    (tmp_path / "run_id").write_text("0" * 32)
    log_evaluation(tmp_path / "run_id", {"PCKh": {"0.5": 72.0}}, weights="1" * 32)
    assert "no run that wrote these weights" in capfd.readouterr().err


def test_figures_of_older_weights_go_to_the_run_that_wrote_them_not_to_the_last_one(tmp_path):
    runs = {}
    for weights in ("older", "newer"):
        with begin() as tracker:
            tracker.tag(weights_last=weights, weights_best=weights)
        runs[weights] = str(tracker.run_id)
    (tmp_path / "run_id").write_text(runs["newer"])
    log_evaluation(tmp_path / "run_id", {"PCKh": {"0.5": 71.0}}, weights="older")
    assert stored(runs["older"]).data.metrics["test/PCKh/0.5"] == 71.0
    assert "test/PCKh/0.5" not in stored(runs["newer"]).data.metrics


def test_a_finished_run_that_is_started_again_keeps_one_model(tmp_path):
    weights = tmp_path / "last.pt"
    run_id = None
    for content in (b"first", b"first", b"second"):
        weights.write_bytes(content)
        with begin(run_id) as tracker:
            tracker.model(weights)
        run_id = tracker.run_id
        models = mlflow.MlflowClient().search_logged_models([stored(run_id).info.experiment_id])
        assert len([model for model in models if model.source_run_id == run_id]) == (
            2 if content == b"second" else 1
        )


def test_the_logged_model_finds_what_the_weights_find(weights, tmp_path):
    with begin() as tracker:
        tracker.model(weights)
        run_id = tracker.run_id
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path))
    table = model.predict(list(PICTURES))
    people = Predictor.load(weights).people(list(PICTURES))
    assert list(table.columns) == ["image", "person", "score", "joint", "x", "y", "confidence"]
    assert table["image"].tolist() == sorted(list(range(3)) * 16)
    np.testing.assert_array_equal(
        table[["x", "y"]], np.concatenate([person.joint_PK2.reshape(-1, 2) for person in people])
    )
    pd.testing.assert_frame_equal(model.predict(PICTURES), table)
    pd.testing.assert_frame_equal(model.predict(PICTURES[0]), table[:16])
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(PICTURES[0], 95))
    assert len(model.predict([str(tmp_path / "a.jpg")])) == 16


def test_the_logged_model_of_a_multi_person_network_finds_all_people_of_a_picture(params, tmp_path):
    weights = write_active_weights(params, tmp_path)
    with begin() as tracker:
        tracker.model(weights)
        run_id = tracker.run_id
    table = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path)).predict(list(PICTURES))
    people = Predictor.load(weights).people(list(PICTURES))
    assert max(map(len, people)) > 1
    pairs = [
        (image, person)
        for image, found in enumerate(people)
        for person in range(len(found))
        for _ in COCO.joints
    ]
    assert list(zip(table["image"], table["person"], strict=True)) == pairs
    assert table["joint"].tolist() == list(COCO.joints) * (len(pairs) // 17)
    np.testing.assert_array_equal(
        table[["x", "y"]], np.concatenate([found.joint_PK2.reshape(-1, 2) for found in people])
    )


# Writes a run into the store that the environment names.
WRITER = """
from pose.tracking.mlflow import Tracker
tracker = Tracker.start("hgpose", {"lr": 0.1}, run_id=None, data_hash="0")
for step in range(3000):
    tracker.log({"loss": 1.0}, step)
print(tracker.run_id)
tracker.finish()
"""


@pytest.mark.slow
def test_writers_that_begin_together_in_an_empty_folder_all_get_in(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [writer.communicate() for writer in writers]
    assert [error for _, error in ends] == [""] * 3
    for output, _ in ends:
        assert len(curve(output.strip(), "loss")) == 3000


STAGE = """
from pathlib import Path
from matplotlib.figure import Figure
from pose.params import read_yaml
from pose.tracking.mlflow import Tracker
params = read_yaml("params.yaml")
with Tracker.start("hgpose", flatten(params), run_id=None, data_hash="0") as tracker:
    tracker.log({"loss": params["lr"]}, 1)
    tracker.figure(Figure(), "curves.png")
Path("out.txt").write_text(str(params))
"""


@pytest.mark.slow
def test_experiments_of_dvc_write_to_the_store_of_the_real_workspace(tmp_path, monkeypatch):
    for name, text in {
        "stage.py": STAGE,
        "params.yaml": "lr: 0.1\n",
        "dvc.yaml": "stages:\n  train:\n    cmd: python stage.py\n    params: [lr]\n    outs: [out.txt]\n",
        ".gitignore": "mlflow.db\nmlruns/\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for who in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{who}_NAME", "test")
        monkeypatch.setenv(f"{who}_EMAIL", "test@example.org")
    for command in (
        *(
            "git init -q",
            "dvc init -q",
            "dvc config core.analytics false",
            "git add -A",
            "git commit -qm project",
        ),
        *("dvc exp run -q -n here -S lr=2e-4", "dvc exp run -q -n temporary --temp -S lr=2e-5"),
        *(
            "dvc exp run -q -n first --queue -S lr=1e-5",
            "dvc exp run -q -n second --queue -S lr=3e-5",
            "dvc queue start -q -j 2",
        ),
    ):
        subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    status = ""
    for _ in range(600):  # at most ten minutes
        status = subprocess.run(["dvc", "queue", "status"], check=True, capture_output=True, text=True).stdout
        if "Queued" not in status and "Running" not in status:
            break
        time.sleep(1)
    runs = mlflow.MlflowClient(store_uri()).search_runs(["1"])
    assert {run.data.tags["DVC_EXP_NAME"]: float(run.data.params["lr"]) for run in runs} == {
        **{"here": 0.0002, "temporary": 0.00002, "first": 0.00001, "second": 0.00003}
    }, status
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["loss"] == float(run.data.params["lr"])
        assert run.data.tags["DVC_STAGE"] == "train"
        assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/figures/curves.png").size == (640, 480)
