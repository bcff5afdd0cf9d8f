"""MLflow: parameters, curves, tags, figures and the model of a training run. Its failures never stop a training."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

# Read by MLflow, in part as it is imported: no telemetry, none of its own lines and traces among ours, and a server that is down
# costs seconds, not minutes.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
os.environ.update(_SETTINGS | os.environ)  # the user's own win

import mlflow
from mlflow.entities import LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException

from pose.engine import Interrupted

logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # in case somebody imported it before us

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One for all tasks: with and without adversary is what there is to compare. The tag `task` tells them apart.
EXPERIMENT = "pose"
METRIC_BATCH, PARAM_BATCH = 1000, 100  # the most that MLflow takes at once
FLUSH_ENTRIES, FLUSH_SECONDS = 500, 10.0
RETRY_SECONDS = 60.0
MOST_WAITING = 200_000  # values kept for a store that does not answer; then the oldest go
SYSTEM_SECONDS = 5.0  # between two samples of processor, memory, disk, network and GPU

Status = Literal["FINISHED", "KILLED", "FAILED"]


def store_uri() -> str:
    """Where runs are kept: `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project's root; a relative SQLite path starts there too.

    `dvc exp run --temp` and `--queue` run in a folder that is deleted afterwards; DVC_ROOT names the real one there.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = _sqlite_path(uri)
    return f"sqlite:///{root / path}" if path else uri


class Tracker:
    """One run of one task. Where the store fails, that is said in one line, once; values wait for it and training goes on."""

    def __init__(self) -> None:
        self._run: Run | None = None  # while it is open
        self._waiting: deque[Metric] = deque(maxlen=MOST_WAITING)
        self._logged: dict[str, int] = {}  # last step of each metric that an earlier part of this run wrote
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._failing = self._complained = False

    @staticmethod
    def start(task: str, params: Mapping[str, Any], *, run_id: str | None, data_hash: str) -> Tracker:
        """Begin a run, or go on with the run `run_id` where its parameters are equal (MLflow's are never changed).

        params: flat, as of `pose.params.flatten`. data_hash: of what it is trained on.
        """
        tracker = Tracker()
        tracker._attempt(lambda: tracker._begin(task, {key: str(value) for key, value in params.items()}, run_id, data_hash))
        return tracker

    @property
    def run_id(self) -> str | None:
        """To be handed to `start` after a restart; None where no run could begin."""
        return self._run.info.run_id if self._run else None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values by name at a step; they go to the store in batches. Values that are not finite are left out."""
        if not self._run:
            return
        now = int(time.time() * 1000)
        for name, value in values.items():
            key = metric_name(name)
            # Steps done again after a restart gave these values before: each is kept once.
            if step > self._logged.get(key, -1) and math.isfinite(value):
                self._waiting.append(Metric(key, float(value), now, step))
        if len(self._waiting) >= FLUSH_ENTRIES or time.monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Write what waits, unless the store failed less than a minute ago. What it refuses goes on waiting."""
        if not self._failing or time.monotonic() >= self._flush_at:
            self._write()

    def figure(self, figure: Figure, name: str) -> None:
        """Keep a matplotlib figure; name: its file, `curves.png`."""
        self._do(lambda client, run_id: client.log_figure(run_id, figure, f"figures/{name}"))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a file, or what is in a folder, with the run."""
        log = "log_artifacts" if Path(path).is_dir() else "log_artifact"
        self._do(lambda client, run_id: getattr(client, log)(run_id, str(path), folder))

    def model(self, weights: str | Path) -> None:
        """Keep weights for use as a model: `mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)`, where `pose` is installed."""
        self._do(
            lambda client, run_id: mlflow.pyfunc.log_model(
                name="model", loader_module="pose.pyfunc_model", data_path=str(weights), pip_requirements=_requirements()
            )
        )

    def finish(self, status: Status = "FINISHED") -> None:
        """Write what waits; end the run and the watching of the system."""
        if self._run:
            self._write()
            self._attempt(lambda: mlflow.end_run(status))
            self._run = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asked_to_end = kind is not None and issubclass(kind, (Interrupted, KeyboardInterrupt, SystemExit))
        self.finish("FINISHED" if kind is None else "KILLED" if asked_to_end else "FAILED")

    def _begin(self, task: str, params: dict[str, str], run_id: str | None, data_hash: str) -> None:
        mlflow.set_tracking_uri(store_uri())
        mlflow.set_system_metrics_sampling_interval(SYSTEM_SECONDS)
        with _one_at_a_time():
            experiment = _experiment()
        earlier = _resumable(run_id, params) if run_id else None
        if run_id and not earlier:
            print(f"tracking: run {run_id} is gone or has other parameters; a new one begins", file=sys.stderr)
        self._run = mlflow.start_run(
            run_id=earlier,
            experiment_id=None if earlier else experiment,
            run_name=None if earlier else " ".join(filter(None, [task, os.environ.get("DVC_EXP_NAME")])),
            tags=_tags(task, data_hash),
            log_system_metrics=True,
        )
        client = mlflow.MlflowClient()
        if earlier:
            curves = [key for key in self._run.data.metrics if not key.startswith("system/")]
            self._logged = {key: max(metric.step for metric in client.get_metric_history(earlier, key)) for key in curves}
        else:
            entries = [Param(key, value) for key, value in params.items()]
            for first in range(0, len(entries), PARAM_BATCH):
                client.log_batch(self._run.info.run_id, params=entries[first : first + PARAM_BATCH])

    def _write(self) -> None:
        while self._waiting and self._run:
            batch, run_id = list(islice(self._waiting, METRIC_BATCH)), self._run.info.run_id
            if not self._attempt(lambda: mlflow.MlflowClient().log_batch(run_id, metrics=batch)):  # noqa: B023
                self._flush_at = time.monotonic() + RETRY_SECONDS
                return
            for _ in batch:
                self._waiting.popleft()
        self._flush_at = time.monotonic() + FLUSH_SECONDS

    def _do(self, work: Callable[[mlflow.MlflowClient, str], Any]) -> None:
        if self._run:
            run_id = self._run.info.run_id
            self._attempt(lambda: work(mlflow.MlflowClient(), run_id))

    def _attempt(self, work: Callable[[], Any]) -> bool:
        try:
            work()
        except Exception as error:  # whatever it is, the hours of training are worth more
            self._failing = True
            if not self._complained:
                self._complained = True
                _complain(error, "training goes on, its history is in metrics/")
            return False
        self._failing = False
        return True


def log_scores(run_id_file: Path, tables: Mapping[str, Mapping[str, float]]) -> None:
    """Add the figures of an evaluation to the run that trained, as `test/TABLE/FIGURE`; nothing where no run is known."""
    run_id = run_id_file.read_text().strip() if run_id_file.exists() else ""
    if not run_id:
        return
    now = int(time.time() * 1000)
    figures = {f"test/{table}/{name}": value for table, row in tables.items() for name, value in row.items()}
    metrics = [Metric(metric_name(name), float(value), now, 0) for name, value in figures.items() if math.isfinite(value)]
    try:
        mlflow.set_tracking_uri(store_uri())
        mlflow.MlflowClient().log_batch(run_id, metrics=metrics)
    except Exception as error:
        _complain(error, "the figures are in metrics/")


def metric_name(name: str) -> str:
    """The name as MLflow allows it: `PCKh@0.5` becomes `PCKh_at_0.5`, whatever else it refuses an underscore."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def _complain(error: Exception, consolation: str) -> None:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    print(f"tracking: {store_uri()} cannot be written to ({reason}); {consolation}", file=sys.stderr)


def _sqlite_path(uri: str) -> str | None:
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """One process of this machine enters at a time: MLflow lets several make the tables of a new SQLite file at once, and they fail."""
    path = _sqlite_path(store_uri())
    if not path:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _experiment() -> str:
    """Its id; made where it is not there yet."""
    client = mlflow.MlflowClient()
    if found := client.get_experiment_by_name(EXPERIMENT):
        if found.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    path = _sqlite_path(store_uri())
    # Absolute: MLflow's own default is relative to wherever the first run happens to be. A server keeps files where it likes.
    location = Path(path).with_name("mlruns").as_uri() if path else None
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=location)
    except MlflowException:
        if found := client.get_experiment_by_name(EXPERIMENT):  # made in the meantime, on a server that others use too
            return str(found.experiment_id)
        raise


def _resumable(run_id: str, params: dict[str, str]) -> str | None:
    try:
        run = mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run_id if run.info.lifecycle_stage == LifecycleStage.ACTIVE and run.data.params == params else None


def _tags(task: str, data_hash: str) -> dict[str, str]:
    tags = {"task": task, "data_hash": data_hash}
    tags |= {name: os.environ[name] for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE") if os.environ.get(name)}
    if revision := _git("rev-parse", "HEAD"):
        # MLflow's own name for it is what its pages show as the version.
        tags |= {"mlflow.source.git.commit": revision, "git_revision": revision}
        tags["git_dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: a run without a revision
        return ""


def _requirements() -> list[str]:
    try:
        return [line for line in requires("pose") or [] if "extra ==" not in line]
    except PackageNotFoundError:  # run from its folder, not installed
        return []
