"""MLflow: the history of training runs mirrored in its store, with parameters, tags, curves and the model.

A thread of its own mirrors the rows of the history, so that training never waits for the store. What the
store did not take is sent again, after a restart too, and no step twice.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.tracking.store import (
    active_run,
    experiment_id,
    is_file,
    reason_of,
    runs_that_wrote,
    store_name,
    writable,
)

# isort: split
# MLflow reads the settings that `store` makes as it is imported.
import mlflow
from mlflow.entities import Metric, Param, RunTag

from pose.io.files import file_hash, write_text
from pose.io.git import has_changes, run_git
from pose.tracking.base import Row, RunInfo, Status
from pose.tracking.logged_model import model_settings
from pose.tracking.run_page import Speed, log_dataset, run_address

log = logging.getLogger(__name__)

ROW_BATCH = 50  # rows that it takes at once: a thousand metrics
SYNC_SECONDS = 10.0  # from one writing of new rows to the next,
RETRY_SECONDS = 60.0  # or to the next attempt at a store that is offline
FINISH_SECONDS = 20.0  # that the end of training, or an evaluation, waits for a store that takes nothing
OPEN_SECONDS = 120.0  # the same for a file that is opened: a busy machine takes a minute to make its tables
UPLOAD_RATE = 500_000  # bytes a second, below which it does not wait for a model to be uploaded
SYSTEM_SECONDS = 5  # between two samples of processor, memory, disk, network and GPU
MODEL_TAG = "model_weights"  # the hash of the weights in the logged model
NO_METRICS = ("step", "epoch")  # columns of a row
RUN_ID = "run_id"  # the file in a run's folder that keeps the id of its MLflow run, for restarts


@dataclass(frozen=True)
class _Job:
    """What is written once. write: is given the id of the run. seconds: that the end of training waits."""

    name: str
    write: Callable[[str], Any]
    seconds: float


class MlflowTracker:
    """One training run in MLflow, over all of its restarts.

    What the thread shares with the caller needs no lock: lists are appended to at one end and read at the
    other, dicts are replaced.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None  # before the store has answered
        self._speed: Speed | None = None
        self._rows: list[tuple[int, Row]] = []  # with the time of each, in milliseconds
        self._sent = 0  # rows that the store has
        self._stored_steps: dict[str, int] = {}  # the last one of each metric, in a run that is continued
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._sent_tags: dict[str, str] = {}
        self._jobs: list[_Job] = []
        self._offline = False
        self._status: Status = "FAILED"
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._mirror, name="mlflow", daemon=True)

    def start(self, run: RunInfo) -> None:
        """Begin a run, or continue an earlier one if its parameters are equal, once the store answers."""
        self._run = run
        self._run_id_file = run.folder / RUN_ID
        self._params = {key: str(value) for key, value in run.params.items()}
        self.set_tags(_environment_tags() | dict(run.tags) | {"task": run.task})
        for row in run.history:
            self.log(row)
        self._speed = Speed(int(run.params["task.batch"])) if "task.batch" in run.params else None
        if path := run.dataset:
            self._add_job("the data set", lambda run_id: log_dataset(run_id, run, path))
        self._thread.start()

    def log(self, row: Row) -> None:
        """Add a row of the history; it is sent with the next ones."""
        speed = self._speed.of(row, time.monotonic()) if self._speed else {}
        self._rows.append((int(time.time() * 1000), {**row, **speed}))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Add tags; they are sent with the next rows."""
        self._tags = {**self._tags, **tags}

    def log_model(self, weights: Path) -> None:
        """Keep model weights as an MLflow model, see `pose.tracking.pyfunc_model`."""

        def write(run_id: str) -> None:
            client, digest = mlflow.MlflowClient(), file_hash(weights)
            if client.get_run(run_id).data.tags.get(MODEL_TAG) == digest:
                return  # a finished run was started again
            mlflow.pyfunc.log_model(name="model", **model_settings(weights))
            client.set_tag(run_id, MODEL_TAG, digest)

        size = weights.stat().st_size if weights.exists() else 0
        self._add_job("the model", write, size / UPLOAD_RATE)

    def finish(self, status: Status) -> None:
        """End the run. Waits for as long as the store takes what is left; logs what it did not take."""
        if status == "FINISHED":
            history = [row for _, row in self._rows]
            self._add_job("curves.png", lambda run_id: _log_curves(run_id, history))
        self._status = status
        self._finished.set()
        before: object = None
        while self._thread.is_alive() and before != (now := (self.run_id, self._sent, len(self._jobs))):
            before = now
            job = next(iter(self._jobs), None)  # the thread may take it away meanwhile
            is_opening = self.run_id is None and is_file() and not self._offline
            if is_opening and status != "KILLED":  # whoever ends a run does not wait for so long
                self._thread.join(OPEN_SECONDS)
            else:
                self._thread.join(job.seconds if job else FINISH_SECONDS)
        missing = [job.name for job in self._jobs]
        if rows := self._rows[self._sent :]:
            missing.insert(0, f"{len(rows):,} rows of the history")
        if missing:
            log.warning("%s could not be written to %s", ", ".join(missing), store_name())

    def _add_job(self, name: str, write: Callable[[str], Any], seconds: float = 0.0) -> None:
        self._jobs.append(_Job(name, write, FINISH_SECONDS + seconds))

    # In the thread

    def _mirror(self) -> None:
        finishing = False
        while not finishing:
            finishing = self._finished.is_set()
            try:
                try:
                    self._sync()
                finally:
                    if finishing:
                        mlflow.end_run(self._status)
            except Exception as error:  # whatever it is, it must not end the training
                if not self._offline:
                    reason = reason_of(error)
                    log.warning("%s cannot be written to (%s); training continues", store_name(), reason)
                self._offline = True
            self._finished.wait(RETRY_SECONDS if self._offline else SYNC_SECONDS)

    def _sync(self) -> None:
        """Send what the store lacks."""
        if self.run_id is None:
            self._open()
        assert self.run_id
        client = mlflow.MlflowClient()
        client.log_batch(self.run_id, params=[Param(*param) for param in self._params.items()])
        self._params = {}
        tags = self._tags
        new_tags = [RunTag(*tag) for tag in tags.items() if tag not in self._sent_tags.items()]
        client.log_batch(self.run_id, tags=new_tags)
        self._sent_tags = tags
        while rows := self._rows[self._sent : self._sent + ROW_BATCH]:
            metrics = [metric for moment, row in rows for metric in self._metrics(moment, row)]
            client.log_batch(self.run_id, metrics=metrics)
            self._sent += len(rows)
        if self._offline:
            log.info("%s can be written to again; %d rows of the history are there", store_name(), self._sent)
            self._offline = False
        while self._jobs:
            job = self._jobs[0]
            try:
                job.write(self.run_id)
            except Exception as error:  # a model that cannot be logged is no reason to try for ever
                log.warning("%s is not kept in %s (%s)", job.name, store_name(), reason_of(error))
            self._jobs.pop(0)

    def _metrics(self, moment: int, row: Row) -> Iterator[Metric]:
        step = int(row["step"])
        for name, value in row.items():
            key = metric_name(name)
            if name not in NO_METRICS and math.isfinite(value) and step > self._stored_steps.get(key, -1):
                yield Metric(key, float(value), moment, step)

    def _open(self) -> None:
        with writable() as client:
            experiment = experiment_id(client)
        mlflow.set_system_metrics_sampling_interval(SYSTEM_SECONDS)
        earlier, tags = self._earlier(client)
        if earlier:
            run = mlflow.start_run(run_id=earlier, log_system_metrics=True)
        else:
            name = " ".join(filter(None, [self._run.task, os.environ.get("DVC_EXP_NAME")]))
            about: dict[str, Any] = {"run_name": name, "tags": tags}
            about["description"] = self._run.description or None
            run = mlflow.start_run(experiment_id=experiment, log_system_metrics=True, **about)
        # Of each metric the store gives its last value at once; all values of a long run take minutes.
        self._stored_steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self.run_id = run.info.run_id
        write_text(self._run_id_file, run.info.run_id)
        log.info("%s: MLflow run %s", self._run.task, run_address(experiment, run.info.run_id))

    def _earlier(self, client: mlflow.MlflowClient) -> tuple[str | None, dict[str, str]]:
        """The run to continue, or the tags of a new one."""
        run_id = ""
        if self._run.resumed and self._run_id_file.exists():
            run_id = self._run_id_file.read_text(encoding="utf-8").strip()
        if not run_id:
            return None, {}
        run = active_run(client, run_id)
        if run is None:
            log.warning("MLflow run %s is gone; a new one begins", run_id)
            return None, {}
        if self._run.finished:  # it says what trained it, and nothing is trained now
            self._params, self._sent_tags = {}, self._tags
            return run_id, {}
        for key, value in self._params.items():  # MLflow never changes the parameters of a run
            if (before := run.data.params.get(key, value)) != value:
                found = f"{key} was {before}, is {value}"
                log.info("MLflow run %s has other parameters (%s); a new one begins", run_id, found)
                return None, {"resumed_from": run_id}
        return run_id, {}


def log_evaluation(tables: Mapping[str, Mapping[str, float]], *, weights: str) -> None:
    """Add the scores of an evaluation as `test/TABLE/METRIC` to the newest run that wrote these weights.

    weights: MD5 of their file. A store that does not answer, or has no such run, costs a line.
    """
    scores = {f"test/{table}/{name}": value for table, row in tables.items() for name, value in row.items()}
    failure: list[Exception] = [TimeoutError(f"no answer in {FINISH_SECONDS:g} s")]

    def write() -> None:
        try:
            run = next(iter(runs_that_wrote(weights)), None)
            if run is None:
                log.info("%s has no run that wrote these weights (%s)", store_name(), weights)
            else:
                with writable() as client:
                    _log_scores(client, run, scores)
            failure.clear()
        except Exception as error:
            failure[0] = error

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(FINISH_SECONDS)
    if failure:
        found = f"{store_name()} cannot be written to ({reason_of(failure[0])})"
        log.warning("%s; the metrics are in metrics/", found)


def metric_name(name: str) -> str:
    """A name that MLflow allows: `@` becomes `_at_`, other signs that it refuses an underscore."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def _log_scores(client: mlflow.MlflowClient, run: mlflow.entities.Run, scores: Mapping[str, float]) -> None:
    named = {metric_name(name): float(value) for name, value in scores.items() if math.isfinite(value)}
    new = {name: value for name, value in named.items() if run.data.metrics.get(name) != value}
    now = int(time.time() * 1000)
    client.log_batch(run.info.run_id, metrics=[Metric(name, value, now, 0) for name, value in new.items()])


def _log_curves(run_id: str, rows: Sequence[Row]) -> None:
    from matplotlib.figure import Figure  # a run needs it once, at its end

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    train = [row for row in rows if "loss" in row]
    left.plot([row["step"] for row in train], [row["loss"] for row in train])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    val = [row for row in rows if "epoch" in row]
    for name in dict.fromkeys(name for row in val for name in row if name not in NO_METRICS):
        points = [(row["step"], row[name]) for row in val if name in row]
        right.plot(*zip(*points, strict=True), marker=".", label=name)
        right.legend()
    right.set(xlabel="step", ylim=(0, None))
    mlflow.MlflowClient().log_figure(run_id, figure, "figures/curves.png")


def _environment_tags() -> dict[str, str]:
    names = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")
    tags = {name: os.environ[name] for name in names if os.environ.get(name)}
    with suppress(OSError):  # Linux; weights do not record the model, see `pose.training.environment`
        if model := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            tags["cpu"] = model[1]
    if revision := run_git("rev-parse", "HEAD"):
        # MLflow's pages show the tag of that name as the version.
        tags |= {"mlflow.source.git.commit": revision, "git_revision": revision}
        tags["git_dirty"] = str(has_changes()).lower()
    return tags
