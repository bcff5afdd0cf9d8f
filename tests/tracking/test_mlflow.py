"""Runs in MLflow: what is kept of training and evaluation, and what a restart continues. Real stores."""

import json
import threading
from pathlib import Path

import mlflow
import pytest
from helpers import commit_all, git, wait_until

import pose.tracking.mlflow
from pose.tracking.base import RunInfo
from pose.tracking.mlflow import MlflowTracker, log_evaluation, metric_name
from pose.tracking.run_page import Speed, run_address
from pose.tracking.store import store_uri

WEIGHTS = "a" * 32  # a hash
SCORES = {"PCKh": {"0.5": 71.0, "Mean@0.1": 20.0, "AUC": float("nan")}}


def test_the_store_is_that_of_the_real_workspace_unless_the_environment_says_otherwise(
    runs, store, monkeypatch
):
    assert store_uri() == f"sqlite:///{store}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert store_uri() == "http://example.org:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert store_uri() == f"sqlite:///{store}/mine.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("DVC_ROOT")
    assert store_uri() == f"sqlite:///{Path.cwd()}/mlflow.db"


def test_a_run_holds_parameters_curves_tags_and_a_figure(runs, store, monkeypatch):
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.setenv(name, name.lower())
    tracker = runs.begin(1, 3, tags={"device": "cpu", "data_hash": "d41d8cd9"})
    tracker.log({"step": 3, "epoch": 1.0, "PCKh@0.5": 60.0, "AUC": float("nan")})
    tracker.set_tags({"weights_last": "abc", "weights_best": "def"})
    tracker.finish("FINISHED")
    run = runs.get(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "hgpose dvc_exp_name"
    assert run.data.params == {key: str(value) for key, value in runs.params.items()}
    assert runs.curve(tracker.run_id) == runs.losses(3)
    assert runs.curve(tracker.run_id, "PCKh_at_0.5") == [(3, 60.0)]
    assert not {"AUC", "step", "epoch"} & run.data.metrics.keys()
    tags = {"task": "hgpose", "data_hash": "d41d8cd9", "device": "cpu", "DVC_STAGE": "dvc_stage"}
    tags |= {"weights_last": "abc", "weights_best": "def", "DVC_EXP_NAME": "dvc_exp_name"}
    assert tags.items() <= run.data.tags.items()
    figure = store / "mlruns" / run.info.run_id / "artifacts/figures/curves.png"
    assert figure.stat().st_size > 1000


def test_a_run_names_its_data_set_and_says_what_is_trained_and_where_its_page_is(runs, store, caplog):
    params = runs.params | {"task.dataset": "lsp_mpii"}
    tags, data, about = {"data_hash": WEIGHTS}, Path("data/prepared/lsp_mpii.h5"), "hgpose: a hourglass"
    for resumed in (False, True):
        tracker = MlflowTracker()
        tracker.start(RunInfo("hgpose", params, tags, resumed, [], Path(), data, about))
        tracker.finish("FINISHED")
    run = runs.get(tracker.run_id)
    [logged] = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("lsp_mpii", WEIGHTS)
    assert json.loads(logged.dataset.source) == {"uri": data.as_posix()}
    assert run.data.tags["mlflow.note.content"] == about
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    command = f"mlflow ui --backend-store-uri '{store_uri()}'"  # quoted: there is a space in it
    line = f"hgpose: MLflow run http://127.0.0.1:5000{page} (`{command}`)"
    assert caplog.messages.count(line) == 2


def test_the_page_of_a_run_on_a_server_is_there_and_its_address_has_no_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org:5000/mlflow/")
    page = "https://example.org:5000/mlflow/#/experiments/3/runs/abc?workflowType=machine_learning"
    assert run_address("3", "abc") == page


def test_the_speed_is_of_the_time_between_rows_without_validation_from_the_second_row_on():
    speed = Speed(16)
    assert speed.of({"step": 20, "loss": 1.0}, now=10.0) == {}
    assert speed.of({"step": 40, "loss": 1.0}, now=12.0) == {"images_per_second": 16 * 20 / 2}
    assert speed.of({"step": 50, "epoch": 1.0}, now=100.0) == {}
    assert speed.of({"step": 60, "loss": 1.0}, now=102.0) == {"images_per_second": 16 * 10 / 2}


def test_a_run_has_its_speed_as_a_metric(runs):
    run_id = runs.track(1, 2, **{"task.batch": 16})
    assert [step for step, _ in runs.curve(run_id, "images_per_second")] == [2]


def test_rows_are_sent_while_training_continues_and_how_it_ended_is_the_status(runs):
    tracker = runs.begin(1, 2)
    wait_until(lambda: runs.curve(tracker.run_id) == runs.losses(2))
    assert runs.get(tracker.run_id).info.status == "RUNNING"
    tracker.finish("KILLED")
    assert runs.get(tracker.run_id).info.status == "KILLED"
    assert runs.get(runs.track(status="FAILED")).info.status == "FAILED"


def test_a_run_knows_the_revision_and_whether_it_was_changed(runs):
    for name in ("params.yaml", "dvc.lock", "metrics/hgpose.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("lr: 1\n")
    commit_all("first")
    for changed, dirty in (("dvc.lock", "false"), ("metrics/hgpose.json", "false"), ("params.yaml", "true")):
        Path(changed).write_text("lr: 2\n")
        tags = runs.get(runs.track()).data.tags
        assert {"git_revision": git("rev-parse", "HEAD"), "git_dirty": dirty}.items() <= tags.items()


def test_names_that_mlflow_refuses_are_changed():
    assert metric_name("PCKh@0.5") == "PCKh_at_0.5"
    assert metric_name("test/PCKh/Mean (14)") == "test/PCKh/Mean _14_"


def test_a_restart_continues_its_run_and_keeps_repeated_steps_once(runs):
    first = runs.track(1, 5, status="KILLED")
    again = runs.track(4, 7, resumed=True)  # from a checkpoint of step 3
    assert again == first
    assert runs.curve(first) == runs.losses(7)
    assert runs.get(first).info.status == "FINISHED"
    from_scratch = runs.track(1, 2)
    assert from_scratch != first
    assert runs.curve(from_scratch) == runs.losses(2)


def test_a_finished_run_that_is_started_again_keeps_what_it_says(runs):
    run_id = runs.track(1, 3, tags={"cpu": "old"}, processes=2)
    assert runs.track(4, 3, resumed=True, finished=True, tags={"cpu": "new"}, processes=1) == run_id
    run = runs.get(run_id)
    assert (run.data.tags["cpu"], run.data.params["processes"], run.info.status) == ("old", "2", "FINISHED")
    assert runs.curve(run_id) == runs.losses(3)


def test_other_parameters_begin_a_new_run_with_the_history_of_the_earlier_one_which_is_named(runs):
    first = runs.track(1, 2)
    second = runs.track(3, 3, resumed=True, lr=0.1)
    line = f"MLflow run {first} has other parameters (lr was 0.00025, is 0.1); a new one begins"
    assert runs.lines() == [line]
    assert runs.get(second).data.params["lr"] == "0.1"
    assert runs.get(second).data.tags["resumed_from"] == first
    assert runs.get(first).data.params["lr"] == "0.00025"
    assert runs.curve(first) == runs.losses(2)
    assert runs.curve(second) == runs.losses(3)


@pytest.mark.parametrize("known", ["0" * 32, "not an id", "deleted"])
def test_a_run_that_is_gone_is_followed_by_a_new_one(runs, known):
    if known == "deleted":
        known = runs.track(1, 1)
        mlflow.MlflowClient(store_uri()).delete_run(known)
    Path("run_id").write_text(known)
    second = runs.track(2, 2, resumed=True)
    assert runs.lines() == [f"MLflow run {known} is gone; a new one begins"]
    assert runs.curve(second) == runs.losses(2)


def test_a_deleted_experiment_is_brought_back(runs):
    experiment = runs.get(runs.track()).info.experiment_id
    mlflow.MlflowClient(store_uri()).delete_experiment(experiment)
    assert runs.get(runs.track()).info.experiment_id == experiment


def test_more_parameters_and_rows_than_mlflow_takes_at_once_are_kept(runs):
    run_id = runs.track(1, 1200, **{f"many.{number}": number for number in range(250)})
    assert len(runs.get(run_id).data.params) == 253
    assert runs.curve(run_id) == runs.losses(1200)


def test_the_system_is_sampled_until_the_run_ends_and_again_after_a_restart(runs, monkeypatch):
    monkeypatch.setattr(pose.tracking.mlflow, "SYSTEM_SECONDS", 0.05)

    def samples(tracker: MlflowTracker) -> list[int]:
        return [step for step, _ in runs.curve(tracker.run_id, "system/system_memory_usage_megabytes")]

    threads = set(threading.enumerate())
    first = runs.begin()
    wait_until(lambda: len(samples(first)) > 1)
    first.finish("KILLED")
    assert set(threading.enumerate()) <= threads
    known = len(samples(first))
    again = runs.begin(resumed=True)
    wait_until(lambda: len(samples(again)) > known)
    again.finish("FINISHED")
    assert samples(first) == list(range(len(samples(first))))


def test_scores_of_an_evaluation_are_added_to_the_run_once(runs):
    run_id = runs.track(tags={"weights_last": "0" * 32, "weights_best": WEIGHTS})
    for _ in range(2):
        log_evaluation(SCORES, weights=WEIGHTS)
    run = runs.get(run_id)
    found = {key: value for key, value in run.data.metrics.items() if key.startswith("test/")}
    assert found == {"test/PCKh/0.5": 71.0, "test/PCKh/Mean_at_0.1": 20.0}
    assert runs.curve(run_id, "test/PCKh/0.5") == [(0, 71.0)]
    assert run.info.status == "FINISHED"
    assert runs.lines() == []
    log_evaluation(SCORES, weights="1" * 32)
    assert "no run that wrote these weights" in runs.lines()[0]


def test_scores_of_older_weights_go_to_the_run_that_wrote_them(runs):
    older, newer = (runs.track(tags={"weights_last": name}) for name in ("older", "newer"))
    log_evaluation(SCORES, weights="older")
    assert runs.get(older).data.metrics["test/PCKh/0.5"] == 71.0
    assert "test/PCKh/0.5" not in runs.get(newer).data.metrics
