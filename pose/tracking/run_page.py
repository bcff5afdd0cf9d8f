"""What a run's page in MLflow shows beside its curves: where it is, the data set, the speed of training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from pose.tracking.base import Row, RunInfo
from pose.tracking.store import store_name

UI = "http://127.0.0.1:5000"  # of `mlflow ui` beside a store that is no server
WORKFLOW = "?workflowType=machine_learning"  # else MLflow shows the pages for language models


def run_address(experiment: str, run_id: str) -> str:
    """The address of a run's page: of the tracking server, or of `mlflow ui` once somebody starts it."""
    store = store_name()
    is_server = store.startswith(("http://", "https://"))
    page = f"/#/experiments/{experiment}/runs/{run_id}{WORKFLOW}"
    if is_server:
        return store.rstrip("/") + page
    return f"{UI}{page} (`mlflow ui --backend-store-uri {shlex.quote(store)}`)"


def log_dataset(run_id: str, run: RunInfo, path: Path) -> None:
    """The prepared set that a run trains on, by name, path and hash; a second time it changes nothing."""
    dataset = Dataset(
        name=str(run.params.get("task.dataset", path.stem)),
        digest=run.tags["data_hash"],
        source_type="local",
        source=json.dumps({"uri": path.as_posix()}),
    )
    context = InputTag("mlflow.data.context", "training")
    MlflowClient().log_inputs(run_id, [DatasetInput(dataset, [context])])


class Speed:
    """Images a second between two rows of the history as they come, checkpoints included, validation not.

    It is no part of the history, in which equal runs are equal.
    """

    def __init__(self, batch: int):
        self._batch = batch
        self._row: tuple[int, float] | None = None  # the step of the newest, and when it came

    def of(self, row: Row, now: float) -> dict[str, float]:
        """`images_per_second` of a row of train.csv; none of the first one, and of those of val.csv.

        now: the time in seconds, of any clock that only goes forward.
        """
        step = int(row["step"])
        (before, then), self._row = self._row or (step, now), (step, now)
        if "epoch" in row or step <= before or now <= then:
            return {}
        return {"images_per_second": self._batch * (step - before) / (now - then)}
