"""Runs in MLflow stores, made and looked up in a line."""

import logging
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from helpers import empty_store, enter_folder
from mlflow.entities import Run

import pose.tracking.mlflow
from pose.tracking.base import Row, RunInfo
from pose.tracking.mlflow import MlflowTracker
from pose.tracking.store import store_uri


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in it, which the tests share, each with runs of its own."""
    folder = tmp_path_factory.mktemp("work space")
    shutil.copy(empty_store(), folder)
    return folder


class Runs:
    """Training runs of a test, in its folder. Their rows have the loss 1 / step."""

    def __init__(self, caplog: pytest.LogCaptureFixture):
        self._caplog = caplog
        self.params = {"lr": 0.00025, "task.adversary": None, "task.network.stem": [16, 32, 32]}

    def rows(self, first: int, last: int) -> list[Row]:
        return [{"step": step, "lr": 0.1, "loss": 1 / step} for step in range(first, last + 1)]

    def losses(self, last: int) -> list[tuple[int, float]]:
        """What `curve` has of rows up to that step."""
        return [(step, 1 / step) for step in range(1, last + 1)]

    def begin(
        self, first: int = 1, last: int = 0, *, resumed: bool = False, finished: bool = False, **more: Any
    ) -> MlflowTracker:
        """A run with rows from `first` to `last`; resumed: those before `first` are its history."""
        tracker, tags = MlflowTracker(), more.pop("tags", {})
        history = self.rows(1, first - 1) if resumed else []
        params = self.params | more
        tracker.start(RunInfo("hgpose", params, tags, resumed, history, Path(), finished=finished))
        self.log(tracker, first, last)
        return tracker

    def log(self, tracker: MlflowTracker, first: int, last: int) -> None:
        for row in self.rows(first, last):
            tracker.log(row)

    def track(self, first: int = 1, last: int = 0, status: Any = "FINISHED", **start: Any) -> str:
        """A run from its start to its end; its id."""
        tracker = self.begin(first, last, **start)
        tracker.finish(status)
        assert tracker.run_id
        return tracker.run_id

    def get(self, run_id: str | None) -> Run:
        assert run_id
        return mlflow.MlflowClient(store_uri()).get_run(run_id)

    def curve(self, run_id: str | None, name: str = "loss", uri: str = "") -> list[tuple[int, float]]:
        """Steps and values of a metric, in the order in which they were written; none of no run."""
        history = mlflow.MlflowClient(uri or store_uri()).get_metric_history(run_id, name) if run_id else []
        return [(metric.step, metric.value) for metric in history]

    def lines(self, level: int = logging.INFO) -> list[str]:
        """Our own log lines, from that level on, but those with the address of a run."""
        records = [one for one in self._caplog.records if one.name.startswith("pose.")]
        records = [one for one in records if "/#/experiments/" not in one.message]
        return [one.message for one in records if one.levelno >= level]


@pytest.fixture
def runs(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Runs:
    """In a folder of the test's own, with the shared store; what is new is sent at once."""
    enter_folder(tmp_path, monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(store))
    for name in ("SYNC_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(pose.tracking.mlflow, name, 0.02)
    return Runs(caplog)
