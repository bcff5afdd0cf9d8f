"""MLflow: the history of training runs mirrored in its store, with parameters, tags, figures and the model.

The rows of the history are the truth; the store is a mirror of them, kept by a thread of its own, so that
training never waits for it. What the store does not take is sent again from the rows, after a restart too; no
step twice.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from pose.tracking.store import active_run, experiment_id, reason_of, runs_that_wrote, store_name, writable

# isort: split
# After that, since MLflow reads the settings that are made there as it is imported.
import mlflow
from mlflow.entities import Metric, Param, RunTag

from pose.io.files import file_hash, write_text
from pose.io.git import has_changes, run_git
from pose.tracking.base import Row, RunInfo, Status

log = logging.getLogger(__name__)

BATCH = 100  # parameters and tags that MLflow takes at once; metrics: 8 times as many
SYNC_SECONDS = 10.0  # from one writing of new rows to the next,
RETRY_SECONDS = 60.0  # or to the next attempt at a store that is offline
FINISH_SECONDS = 20.0  # that the end of training, or of an evaluation, waits for the store
SYSTEM_SECONDS = 5  # between two samples of processor, memory, disk, network and GPU
MODEL_TAG = "model_weights"  # the hash of what the logged model is made of
NO_METRICS = ("step", "epoch")  # columns of a row


class MlflowTracker:
    """One run of one task, over all restarts of its training.

    run_id_file: holds the id of the MLflow run, for a restart and for `log_evaluation`.
    """

    def __init__(self, run_id_file: Path):
        self.run_id: str | None = None
        self._run_id_file = run_id_file
        self._tags: dict[str, str] = {}
        self._rows: list[tuple[int, Row]] = []  # all of them, with the time in milliseconds
        self._sent = 0  # rows that the store has
        self._stored_steps: dict[str, int] = {}  # of each metric, as the run was found
        self._jobs: list[tuple[str, Callable[[], Any]]] = []
        self._offline = False
        self._status: Status | None = None
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._mirror, name="mlflow", daemon=True)

    def start(self, run: RunInfo) -> None:
        """Begin a run, or continue the one of the file if it has equal parameters, as soon as the store answers."""
        self._run = run
        self._tags |= _environment_tags() | dict(run.tags) | {"task": run.task}
        for row in run.history:
            self.log(row)
        self._thread.start()

    def log(self, row: Row) -> None:
        """A row of the history; it goes to the store with the next ones."""
        self._rows.append((int(time.time() * 1000), dict(row)))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags, written with the next rows."""
        with self._lock:
            self._tags |= tags

    def log_model(self, weights: Path) -> None:
        """Keep model weights behind MLflow's own interface, see `pose.tracking.pyfunc_model`."""

        def write() -> None:
            client, digest = mlflow.MlflowClient(), file_hash(weights)
            assert self.run_id
            if (
                client.get_run(self.run_id).data.tags.get(MODEL_TAG) == digest
            ):  # a finished run was started again
                return
            loader, needs = "pose.tracking.pyfunc_model", _requirements()
            mlflow.pyfunc.log_model(
                name="model", loader_module=loader, data_path=str(weights), pip_requirements=needs
            )
            client.set_tag(self.run_id, MODEL_TAG, digest)

        self._add_job("the model", write)

    def finish(self, status: Status) -> None:
        """End the run; waits a moment for what is not written yet, and says what could not be."""
        if status == "FINISHED":
            rows = [row for _, row in self._rows]
            self._add_job("curves.png", lambda: _log_curves(str(self.run_id), rows))
        self._status = status
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(FINISH_SECONDS)
        left = (
            [f"{len(self._rows) - self._sent:,} rows of the history"] if len(self._rows) > self._sent else []
        )
        left += [name for name, _ in self._jobs]
        if left:
            log.warning("%s could not be written to %s", ", ".join(left), store_name())

    def _add_job(self, name: str, job: Callable[[], Any]) -> None:
        with self._lock:
            self._jobs.append((name, job))

    # In the thread

    def _mirror(self) -> None:
        while True:
            finishing = self._status is not None
            try:
                self._write_all()
                if finishing:
                    mlflow.end_run(self._status or "FAILED")
            except Exception as error:  # whatever it is, the hours of training are worth more
                if not self._offline:
                    log.warning(
                        "%s cannot be written to (%s); training continues", store_name(), reason_of(error)
                    )
                self._offline = True
            if finishing:
                break
            self._wake.wait(RETRY_SECONDS if self._offline else SYNC_SECONDS)

    def _write_all(self) -> None:
        client = mlflow.MlflowClient()
        if self.run_id is None:
            self._open()
        assert self.run_id
        with self._lock:
            tags, self._tags = self._tags, {}
        try:
            for some in _chunks(list(tags.items()), BATCH):
                client.log_batch(self.run_id, tags=[RunTag(*tag) for tag in some])
        except Exception:
            self.set_tags(tags | self._tags)
            raise
        rows = self._rows[self._sent :]
        metrics = [metric for moment, row in rows for metric in self._metrics(moment, row)]
        for batch in _chunks(metrics, 8 * BATCH):
            client.log_batch(self.run_id, metrics=batch)
        self._sent += len(rows)
        if self._offline:
            log.info("%s can be written to again; %d rows of the history are there", store_name(), self._sent)
            self._offline = False
        self._do_jobs()

    def _metrics(self, moment: int, row: Row) -> Iterator[Metric]:
        step = int(row["step"])
        for name, value in row.items():
            key = metric_name(name)
            if name not in NO_METRICS and math.isfinite(value) and step > self._stored_steps.get(key, -1):
                yield Metric(key, float(value), moment, step)

    def _do_jobs(self) -> None:
        while self._jobs:
            name, job = self._jobs[0]
            try:
                job()
            except Exception as error:
                log.warning("%s is not kept in %s (%s)", name, store_name(), reason_of(error))
            with self._lock:
                self._jobs.pop(0)

    def _open(self) -> None:
        with writable() as client:
            experiment = experiment_id(client)
        earlier = self._earlier(client)
        mlflow.set_system_metrics_sampling_interval(SYSTEM_SECONDS)
        run = mlflow.start_run(
            run_id=earlier,
            experiment_id=None if earlier else experiment,
            run_name=None
            if earlier
            else " ".join(filter(None, [self._run.task, os.environ.get("DVC_EXP_NAME")])),
            log_system_metrics=True,
        )
        # Only the last value of each metric: whole histories of long runs take minutes.
        self._stored_steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        params = {key: str(value) for key, value in self._run.params.items() if key not in run.data.params}
        for some in _chunks(list(params.items()), BATCH):
            client.log_batch(run.info.run_id, params=[Param(*param) for param in some])
        write_text(self._run_id_file, run.info.run_id)
        self.run_id = run.info.run_id

    def _earlier(self, client: mlflow.MlflowClient) -> str | None:
        """The run to continue."""
        run_id = self._run_id_file.read_text(encoding="utf-8").strip() if self._run_id_file.exists() else ""
        if not self._run.resumed or not run_id:
            return None
        run = active_run(client, run_id)
        if run is None:
            log.warning("MLflow run %s is gone; a new one begins here", run_id)
            return None
        params = {key: str(value) for key, value in self._run.params.items()}
        for key, value in run.data.params.items():  # MLflow never changes the parameters of a run
            if params.get(key) != value:
                self.set_tags({"resumed_from": run_id})
                found = f"{key} was {value}, is {params.get(key)}"
                log.info("MLflow run %s has other parameters (%s); a new one begins here", run_id, found)
                return None
        return run_id


def log_evaluation(run_id_file: Path, tables: Mapping[str, Mapping[str, float]], *, weights: str) -> None:
    """Add the scores of an evaluation to the run that wrote the weights with that hash, as `test/TABLE/METRIC`.

    That is the run of the file, unless older weights were brought back. Where no run is known nothing is
    written, and said only if there should be one. A store that does not answer costs a line.
    """
    run_id = run_id_file.read_text(encoding="utf-8").strip() if run_id_file.exists() else ""
    if not run_id:
        return
    scores = {
        f"test/{table}/{name}": float(value) for table, row in tables.items() for name, value in row.items()
    }

    def write() -> None:
        with writable() as client:
            run = active_run(client, run_id)
        if run is None or weights not in (
            run.data.tags.get("weights_last"),
            run.data.tags.get("weights_best"),
        ):
            run = next(iter(runs_that_wrote(weights)), None)
        if run is None:
            log.warning("%s has no run that wrote these weights (%s)", store_name(), weights)
            return
        now = int(time.time() * 1000)
        named = {metric_name(name): value for name, value in scores.items() if math.isfinite(value)}
        new = {name: value for name, value in named.items() if run.data.metrics.get(name) != value}
        client.log_batch(
            run.info.run_id, metrics=[Metric(name, value, now, 0) for name, value in new.items()]
        )

    errors: list[Exception] = [TimeoutError(f"no answer in {FINISH_SECONDS:g} s")]

    def attempt() -> None:
        try:
            write()
            errors.clear()
        except Exception as error:
            errors[0] = error

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(FINISH_SECONDS)
    if errors:
        log.warning(
            "%s cannot be written to (%s); the metrics are in metrics/", store_name(), reason_of(errors[0])
        )


def metric_name(name: str) -> str:
    """The name as MLflow allows it.

    `PCKh@0.5` becomes `PCKh_at_0.5`, whatever else it refuses an underscore.
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def _log_curves(run_id: str, rows: Sequence[Row]) -> None:
    """A figure of the loss and of the validation metrics over steps."""
    from matplotlib.figure import Figure  # here, since a run needs it once, at its end

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    train = [row for row in rows if "loss" in row]
    left.plot([row["step"] for row in train], [row["loss"] for row in train])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    val = [row for row in rows if "epoch" in row]
    for name in dict.fromkeys(name for row in val for name in row if name not in NO_METRICS):
        points = [(row["step"], row[name]) for row in val if name in row]
        right.plot(*zip(*points, strict=True), marker=".", label=name)
    right.set(xlabel="step", ylim=(0, None))
    right.legend()
    mlflow.MlflowClient().log_figure(run_id, figure, "figures/curves.png")


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _environment_tags() -> dict[str, str]:
    names = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")
    tags = {name: os.environ[name] for name in names if os.environ.get(name)}
    if revision := run_git("rev-parse", "HEAD"):
        # MLflow's own name for it is what its pages show as the version.
        tags |= {"mlflow.source.git.commit": revision, "git_revision": revision}
        tags["git_dirty"] = str(has_changes()).lower()
    return tags


def _requirements() -> list[str]:
    try:
        return [line for line in requires("pose") or [] if "extra ==" not in line]
    except PackageNotFoundError:  # run from its folder, not installed
        return []
