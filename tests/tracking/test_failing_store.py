"""A store that is away, broken, locked or slow: training does not notice, nothing is lost. Real stores."""

import fcntl
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import pytest
from helpers import empty_store, free_port, run_python, wait_until, write_initial_weights

import pose.tracking.mlflow
from pose.io.files import file_hash
from pose.tracking.mlflow import log_evaluation
from pose.tracking.store import store_uri

WEIGHTS = "a" * 32  # a hash


def test_a_server_that_is_away_costs_two_lines_and_no_time(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    tracker = runs.begin(1, 1000)
    wait_until(lambda: bool(runs.lines()))
    tracker.finish("FINISHED")
    assert tracker.run_id is None
    away, left = runs.lines()
    assert away.startswith("http://127.0.0.1:9 cannot be written to (")
    assert away.endswith('Connection refused"); training continues')
    assert left == "1,000 rows of the history, curves.png could not be written to http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("kind", "reason"), [("folder", "unable to open database file"), ("file", "file is not a database")]
)
def test_a_run_begins_as_soon_as_its_store_can_be_written_to(runs, kind, reason, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    uri, spoilt = store_uri(), Path("mlflow.db")
    if kind == "folder":
        spoilt.mkdir()
    else:
        spoilt.write_text("this is no database" * 1000)
    tracker = runs.begin(1, 5)
    wait_until(lambda: bool(runs.lines()))
    assert not Path("run_id").exists()
    spoilt.rename("spoilt")
    shutil.copy(empty_store(), "mlflow.db")
    wait_until(lambda: Path("run_id").exists())
    tracker.finish("FINISHED")
    assert runs.curve(Path("run_id").read_text()) == runs.losses(5)
    assert runs.get(tracker.run_id).data.params["lr"] == "0.00025"
    assert runs.lines() == [
        f"{uri} cannot be written to ({reason}); training continues",
        f"{uri} can be written to again; 5 rows of the history are there",
    ]


def test_what_the_store_did_not_take_is_sent_by_the_next_start(runs, monkeypatch):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}")
        runs.begin(1, 3).finish("KILLED")
    assert runs.curve(runs.track(4, 5, resumed=True)) == runs.losses(5)


def rename_table(path: Path, old: str, new: str) -> None:
    with sqlite3.connect(path, timeout=60) as database:
        database.execute("PRAGMA legacy_alter_table = ON")
        database.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_rows_wait_for_a_store_that_fails_for_a_while(runs, store):
    tracker = runs.begin()
    wait_until(lambda: tracker.run_id is not None)
    rename_table(store / "mlflow.db", "metrics", "gone")
    runs.log(tracker, 1, 120)
    wait_until(lambda: bool(runs.lines()))
    rename_table(store / "mlflow.db", "gone", "metrics")
    tracker.finish("FINISHED")
    assert runs.curve(tracker.run_id) == runs.losses(120)
    assert len(runs.lines(logging.WARNING)) == 1
    assert runs.lines()[-1].endswith("can be written to again; 120 rows of the history are there")


@contextmanager
def locked(store: Path, lock: str) -> Iterator[None]:
    """By another process that opens the store, or by a long transaction."""
    if lock == "file":
        with (store / "mlflow.db.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
    else:
        database = sqlite3.connect(store / "mlflow.db", timeout=60)
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()
        database.close()


@pytest.mark.parametrize("lock", ["file", "database"])
def test_a_locked_store_delays_the_end_by_so_many_seconds_and_gets_everything_once_it_is_free(
    runs, lock, store, monkeypatch
):
    for limit in ("OPEN_SECONDS", "FINISH_SECONDS"):
        monkeypatch.setattr(pose.tracking.mlflow, limit, 0.3)
    with locked(store, lock):
        started = time.monotonic()
        tracker = runs.begin(1, 50)
        tracker.finish("FINISHED")
        assert time.monotonic() - started < 5
    left = "50 rows of the history, curves.png"
    assert runs.lines() == [f"{left} could not be written to sqlite:///{store}/mlflow.db"]
    wait_until(lambda: not tracker._thread.is_alive())
    assert runs.curve(tracker.run_id) == runs.losses(50)
    assert runs.get(tracker.run_id).info.status == "FINISHED"


def test_a_store_that_is_slow_but_takes_everything_is_waited_for(runs, monkeypatch):
    tracker = runs.begin()
    wait_until(lambda: tracker.run_id is not None)
    monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 2.0)
    log_batch = mlflow.MlflowClient.log_batch

    def slow(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.3)
        log_batch(*args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", slow)
    runs.log(tracker, 1, 400)
    tracker.finish("KILLED")
    assert runs.curve(tracker.run_id) == runs.losses(400)
    assert runs.lines() == []


def test_an_interrupted_run_does_not_wait_for_a_store_to_be_opened(runs, store, monkeypatch):
    monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 0.3)
    with locked(store, "file"):
        started = time.monotonic()
        tracker = runs.begin(1, 50)
        tracker.finish("KILLED")
        assert time.monotonic() - started < 60 < pose.tracking.mlflow.OPEN_SECONDS
    wait_until(lambda: not tracker._thread.is_alive())


def test_a_store_whose_tables_are_still_being_made_is_waited_for(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 0.1)
    make = pose.tracking.mlflow.experiment_id

    def slow(client: mlflow.MlflowClient) -> str:
        time.sleep(1)
        monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 20.0)
        return make(client)

    monkeypatch.setattr(pose.tracking.mlflow, "experiment_id", slow)
    tracker = runs.begin(1, 50)
    tracker.finish("FAILED")
    assert runs.lines() == []
    assert runs.curve(tracker.run_id) == runs.losses(50)


def test_a_large_model_is_waited_for(runs, params, tmp_path, monkeypatch):
    """An upload shows no progress until it is done: it is given a time by its size."""
    weights = write_initial_weights(params, "hgpose", tmp_path)
    tracker = runs.begin(1, 1)
    wait_until(lambda: tracker.run_id is not None)
    monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 0.2)
    monkeypatch.setattr(pose.tracking.mlflow, "UPLOAD_RATE", weights.stat().st_size / 60)
    monkeypatch.setattr(mlflow.pyfunc, "log_model", lambda **_: time.sleep(2))
    tracker.log_model(weights)
    tracker.finish("FINISHED")
    assert runs.lines() == []
    run = runs.get(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_weights"] == file_hash(weights)


def test_a_model_that_cannot_be_kept_costs_one_line(runs):
    tracker = runs.begin(1, 1)
    tracker.log_model(Path("nothing"))
    tracker.finish("FINISHED")
    assert runs.curve(tracker.run_id) == runs.losses(1)
    [line] = runs.lines()
    assert line.startswith("the model is not kept in sqlite:")


def test_a_store_that_does_not_answer_costs_an_evaluation_one_line(runs, store, monkeypatch):
    runs.track(tags={"weights_last": WEIGHTS})
    monkeypatch.setattr(pose.tracking.mlflow, "FINISH_SECONDS", 0.1)
    with locked(store, "file"):
        log_evaluation({"PCKh": {"0.5": 71.0}}, weights=WEIGHTS)
    [line] = runs.lines()
    assert line.endswith("(no answer in 0.1 s); the metrics are in metrics/")


@contextmanager
def server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, with all its processes in a group of their own."""
    words = ["server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", *words]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)

    def is_up() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
            return True
        return False

    try:
        wait_until(is_up)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_that_comes_late_then_falls_silent_and_ends_before_training_has_each_step_once(
    runs, tmp_path, monkeypatch
):
    port = free_port()
    uri, file = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    shutil.copy(empty_store(), tmp_path)
    tracker = runs.begin(1, 70)
    wait_until(lambda: len(runs.lines()) == 1)
    with server(port, tmp_path) as process:
        wait_until(lambda: len(runs.lines()) == 2)
        assert runs.curve(tracker.run_id, uri=file) == runs.losses(70)
        os.killpg(process.pid, signal.SIGSTOP)
        runs.log(tracker, 71, 90)
        wait_until(lambda: len(runs.lines()) == 3)
        # It does what it was asked, though nobody waits for the answer.
        os.killpg(process.pid, signal.SIGCONT)
        wait_until(lambda: len(runs.lines()) == 4)
        assert runs.curve(tracker.run_id, uri=file) == runs.losses(90)
        tracker.set_tags({"weights_last": WEIGHTS})
        wait_until(lambda: runs.get(tracker.run_id).data.tags.get("weights_last") == WEIGHTS)
        log_evaluation({"PCKh": {"0.5": 71.0}}, weights=WEIGHTS)
        assert runs.get(tracker.run_id).data.metrics["test/PCKh/0.5"] == 71.0
    runs.log(tracker, 91, 95)
    tracker.finish("KILLED")
    assert [line.split(" (")[0] for line in runs.lines()] == [
        f"{uri} cannot be written to",
        f"{uri} can be written to again; 70 rows of the history are there",
        f"{uri} cannot be written to",
        f"{uri} can be written to again; 90 rows of the history are there",
        f"{uri} cannot be written to",
        f"5 rows of the history could not be written to {uri}",
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", file)  # the restart writes to the server's own file
    assert runs.track(96, 100, resumed=True) == tracker.run_id
    assert runs.curve(tracker.run_id) == runs.losses(100)


# A training from its checkpoint to a step, with a checkpoint every tenth, that kills itself.
TRAINING = """
import json, os, signal, sys
from pathlib import Path
import pose.tracking.mlflow
from pose.tracking.base import RunInfo
pose.tracking.mlflow.SYNC_SECONDS = 0.01
checkpoint, stop, last = Path("checkpoint"), int(sys.argv[1]), 50
history = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
tracker = pose.tracking.mlflow.MlflowTracker()
tracker.start(RunInfo("hgpose", {"lr": 0.1}, {}, bool(history), list(history), Path()))
for step in range(len(history) + 1, last + 1):
    history.append({"step": step, "loss": 1 / step})
    tracker.log(history[-1])
    while tracker._sent < len(history):
        pass
    if step == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    if step % 10 == 0:
        checkpoint.write_text(json.dumps(history))
tracker.finish("FINISHED")
"""


@pytest.mark.slow
def test_a_training_that_is_killed_after_its_checkpoint_has_each_step_once(runs):
    for stop in (33, 0):
        done = run_python(TRAINING, str(stop))
        assert done.returncode == (-signal.SIGKILL if stop else 0), done.stderr
    run_id = Path("run_id").read_text()
    assert runs.curve(run_id) == runs.losses(50)
    assert runs.get(run_id).info.status == "FINISHED"
