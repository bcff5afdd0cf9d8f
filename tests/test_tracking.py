"""Runs in MLflow: what is kept, what a restart goes on with, and what happens where the store fails. With real stores."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import matplotlib.figure
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from test_infer import talkative, written

import pose.tracking
from pose.data.images import encode_jpeg
from pose.engine import Interrupted
from pose.infer import Predictor
from pose.params import Params
from pose.skeleton import COCO
from pose.tracking import Tracker, log_scores, metric_name, store_uri

ROOT = Path(__file__).resolve().parents[1]
PARAMS = {"lr": 0.00025, "hgpose.adversary": None, "hgpose.network.stem": [16, 32, 32]}
PICTURES = np.random.default_rng(0).integers(0, 255, (3, 48, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a store in it. Its tables take seconds to make: the tests share it, each with runs of its own."""
    return tmp_path_factory.mktemp("work space")


@pytest.fixture(autouse=True)
def workspace(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(store))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for use as they are before training."""
    return written(params, "hgpose", tmp_path_factory.mktemp("models"))


def begin(run_id: str | None = None, **changes: object) -> Tracker:
    return Tracker.start("hgpose", PARAMS | changes, run_id=run_id, data_hash="d41d8cd9")


def stored(run_id: str | None) -> Run:
    assert run_id is not None
    return mlflow.MlflowClient(store_uri()).get_run(run_id)


def curve(run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    return [(metric.step, metric.value) for metric in mlflow.MlflowClient(store_uri()).get_metric_history(run_id, name)]


def test_the_store_is_that_of_the_real_workspace_unless_the_environment_says_otherwise(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert store_uri() == f"sqlite:///{store}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert store_uri() == "http://example.org:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert store_uri() == f"sqlite:///{store}/mine.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("DVC_ROOT")
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_run_holds_parameters_curves_tags_and_files(store, monkeypatch, tmp_path):
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.setenv(name, name.lower())
    (tmp_path / "note.txt").write_text("a note")
    with begin() as tracker:
        run_id = str(tracker.run_id)
        for step in range(1, 4):
            tracker.log({"heatmap": 1 / step}, step)
        tracker.log({"PCKh@0.5": 60.0, "AUC": float("nan")}, 3)
        figure = matplotlib.figure.Figure()
        figure.subplots().plot([1, 2])
        tracker.figure(figure, "curves.png")
        tracker.artifact(tmp_path / "note.txt", "notes")
    run = stored(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "hgpose dvc_exp_name"
    assert run.data.params == {"lr": "0.00025", "hgpose.adversary": "None", "hgpose.network.stem": "[16, 32, 32]"}
    assert curve(run_id, "heatmap") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert curve(run_id, "PCKh_at_0.5") == [(3, 60.0)]
    assert "AUC" not in run.data.metrics
    tags = {"task": "hgpose", "data_hash": "d41d8cd9", "DVC_EXP_NAME": "dvc_exp_name", "DVC_STAGE": "dvc_stage"}
    assert tags.items() <= run.data.tags.items()
    assert (store / "mlruns" / run_id / "artifacts/figures/curves.png").stat().st_size > 1000
    assert (store / "mlruns" / run_id / "artifacts/notes/note.txt").read_text() == "a note"


def test_a_run_knows_the_revision_and_whether_it_was_changed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "params.yaml").write_text("lr: 1\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for text, dirty in (("lr: 1\n", "false"), ("lr: 2\n", "true")):
        (tmp_path / "params.yaml").write_text(text)
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


@pytest.mark.parametrize(("run_id", "lr"), [(None, 0.1), ("0" * 32, 0.00025), ("not an id", 0.00025)])
def test_other_parameters_or_an_unknown_run_begin_a_new_one(run_id, lr, capfd):
    with begin() as first:
        first_id = first.run_id
    with begin(run_id or first_id, lr=lr) as second:
        assert second.run_id not in (None, first_id)
        assert stored(second.run_id).data.params["lr"] == str(lr)
    assert capfd.readouterr().err == f"tracking: run {run_id or first_id} is gone or has other parameters; a new one begins\n"
    assert stored(first_id).data.params["lr"] == "0.00025"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (Interrupted, "KILLED"), (KeyboardInterrupt, "KILLED")])
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


def test_the_system_is_watched_until_the_run_ends(monkeypatch):
    monkeypatch.setattr(pose.tracking, "SYSTEM_SECONDS", 0.05)
    tracker = begin()
    run_id, watcher = tracker.run_id, [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
    watcher[0].join(0.5)
    tracker.finish()
    assert not watcher[0].is_alive()
    assert stored(run_id).data.metrics["system/system_memory_usage_megabytes"] > 0


def test_a_store_out_of_reach_costs_one_line_and_no_training(monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with begin() as tracker:
        for step in range(1000):
            tracker.log({"loss": 1.0}, step)
        tracker.flush()
        tracker.artifact("nothing")
        assert tracker.run_id is None
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tracking: http://127.0.0.1:9 cannot be written to (")
    assert lines[0].endswith("); training goes on, its history is in metrics/")


def test_values_wait_for_a_store_that_fails_for_a_while(store, capfd):
    tracker = begin()
    run_id = tracker.run_id
    with broken(store / "mlflow.db"):
        for step in range(1200):
            tracker.log({"loss": 1.0}, step)
        tracker.artifact("nothing")
    assert len(capfd.readouterr().err.splitlines()) == 1
    tracker.finish()
    assert len(curve(run_id, "loss")) == 1200


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
    log_scores(tmp_path / "run_id", {"PCKh": {"0.5": 71.0, "Mean@0.1": 20.0, "AUC": float("nan")}})
    log_scores(tmp_path / "missing", {"PCKh": {"0.5": 71.0}})
    run = stored((tmp_path / "run_id").read_text())
    assert {key: value for key, value in run.data.metrics.items() if key.startswith("test/")} == {
        "test/PCKh/0.5": 71.0,
        "test/PCKh/Mean_at_0.1": 20.0,
    }
    assert run.info.status == "FINISHED"
    (tmp_path / "run_id").write_text("0" * 32)
    log_scores(tmp_path / "run_id", {"PCKh": {"0.5": 71.0}})
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_logged_model_finds_what_the_weights_find(weights, tmp_path):
    with begin() as tracker:
        tracker.model(weights)
        run_id = tracker.run_id
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path))
    table = model.predict(list(PICTURES))
    people = Predictor.load(weights).people(list(PICTURES))
    assert list(table.columns) == ["image", "person", "score", "joint", "x", "y", "confidence"]
    assert table["image"].tolist() == sorted(list(range(3)) * 16)
    np.testing.assert_array_equal(table[["x", "y"]], np.concatenate([person.joint_PK2.reshape(-1, 2) for person in people]))
    pd.testing.assert_frame_equal(model.predict(PICTURES), table)
    pd.testing.assert_frame_equal(model.predict(PICTURES[0]), table[:16])
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(PICTURES[0], 95))
    assert len(model.predict([str(tmp_path / "a.jpg")])) == 16


def test_the_logged_model_of_a_multi_person_network_finds_all_people_of_a_picture(params, tmp_path):
    weights = talkative(params, tmp_path)
    with begin() as tracker:
        tracker.model(weights)
        run_id = tracker.run_id
    table = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path)).predict(list(PICTURES))
    people = Predictor.load(weights).people(list(PICTURES))
    assert max(map(len, people)) > 1
    pairs = [(image, person) for image, found in enumerate(people) for person in range(len(found)) for _ in COCO.joints]
    assert list(zip(table["image"], table["person"], strict=True)) == pairs
    assert table["joint"].tolist() == list(COCO.joints) * (len(pairs) // 17)
    np.testing.assert_array_equal(table[["x", "y"]], np.concatenate([found.joint_PK2.reshape(-1, 2) for found in people]))


# Writes a run into the store that the environment names.
WRITER = """
from pose.tracking import Tracker
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
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [writer.communicate() for writer in writers]
    assert [error for _, error in ends] == [""] * 3
    for output, _ in ends:
        assert len(curve(output.strip(), "loss")) == 3000


STAGE = """
import time
from pathlib import Path
from pose.params import flatten, read_yaml
from pose.tracking import Tracker
params = read_yaml("params.yaml")
with Tracker.start("hgpose", flatten(params), run_id=None, data_hash="0") as tracker:
    tracker.log({"loss": params["lr"]}, 1)
    tracker.artifact("params.yaml")
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
        *("git init -q", "dvc init -q", "dvc config core.analytics false", "git add -A", "git commit -qm project"),
        *("dvc exp run -q -n here -S lr=2e-4", "dvc exp run -q -n temporary --temp -S lr=2e-5"),
        *("dvc exp run -q -n first --queue -S lr=1e-5", "dvc exp run -q -n second --queue -S lr=3e-5", "dvc queue start -q -j 2"),
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
        assert "lr:" in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/params.yaml")
