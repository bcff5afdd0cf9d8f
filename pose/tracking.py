"""MLflow: parameters, curves, tags, figures and the model of a training run. Its failures never stop a training."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pose.mlflow_store import active_run, experiment_id, reason_of, runs_that_wrote, store_name, writable

# isort: split
# After that, since MLflow reads the settings that are made there as it is imported.
import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from pose.engine import Interrupted
from pose.files import file_hash, write_text
from pose.folders import Folders
from pose.git import changed, git

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC_BATCH, PARAM_BATCH, TAG_BATCH = 800, 100, 100  # the most that MLflow takes at once: 1000 in all
FLUSH_ENTRIES, FLUSH_SECONDS = 500, 10.0
RETRY_SECONDS = 60.0  # from one attempt at a store that is away to the next,
RETRY_SHARE = 0.05  # or longer, so that waiting for answers takes no more than this share of the time
MOST_WAITING = 200_000  # values kept for a store that is away, and written into each resume state; then the oldest go
MODEL_TAG = "model_weights"  # the hash of what the logged model is made of
SYSTEM_SECONDS = 5.0  # between two samples of processor, memory, disk, network and GPU

Status = Literal["FINISHED", "KILLED", "FAILED"]
Value = tuple[str, float, int, int]  # name as MLflow allows it, value, time in milliseconds, step


class Tracker:
    """One run of one task, over all restarts of its training. A store that is away costs a line: what it has missed waits for it.

    Values are written in the order in which they came, and a resume state is saved after `flush`, with `unsent()`. So up to a step that
    the store has of a metric it has all, and with each step that it has once, whenever the process is killed. A batch that was written
    though the answer was lost is sent again as it was, and MLflow keeps equal values once.
    """

    def __init__(self, task: str, params: dict[str, str], run_id: str | None, id_file: Path | None):
        self.run_id = run_id  # to be handed to `start` after a restart; None as long as none could begin
        self._task, self._params, self._id_file = task, params, id_file
        self._open = self._ended = False
        # What waits for the store.
        self._unwritten = dict(params)
        self._tags: dict[str, str] = {}
        self._waiting: deque[Value] = deque(maxlen=MOST_WAITING)
        self._files: deque[tuple[str, Callable[[mlflow.MlflowClient, str], Any]]] = deque()
        self._last: dict[str, int] = {}  # the step of the newest value of each metric, in the store or waiting
        self._away = self._overflown = False
        self._flush_at = 0.0
        self._watcher: SystemMetricsMonitor | None = None

    @staticmethod
    def start(
        task: str,
        params: Mapping[str, Any],
        *,
        run_id: str | None,
        data_hash: str,
        unsent: Iterable[Value] = (),
        tags: Mapping[str, str] | None = None,
        id_file: Path | None = None,
    ) -> Tracker:
        """Begin a run, or go on with one of equal parameters (MLflow's are never changed); later, if the store is away.

        params: flat, as of `pose.params.flatten`. run_id, unsent: as they were when the resume state was saved; None, nothing in a run
        that begins. data_hash: of what it is trained on. id_file: holds the run's id from the moment it begins, for `log_scores`, and
        for a restart from a state that was saved before that moment.
        """
        texts = {key: str(value) for key, value in params.items()}
        tracker = Tracker(task, texts, run_id, id_file)
        tracker.tag(**_tags(task, data_hash) | dict(tags or {}))
        for value in unsent:
            tracker._keep(value)
        if id_file and not run_id and not tracker._waiting:
            write_text(id_file, "")  # of another run
        tracker.flush()
        return tracker

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values by name at a step; they go to the store in batches. Left out: what is not finite, and steps that were done before."""
        now = int(time.time() * 1000)
        for name, value in values.items():
            if math.isfinite(value):
                self._keep((metric_name(name), float(value), now, step))
        if len(self._waiting) >= FLUSH_ENTRIES or time.monotonic() >= self._flush_at:
            self.flush()

    def tag(self, **tags: str) -> None:
        """Tags, written with the next values."""
        self._tags |= tags

    def unsent(self) -> list[Value]:
        """Values that the store does not have, or has not confirmed. To be handed to `start` after a restart from here."""
        return list(self._waiting)

    def flush(self, *, now: bool = False) -> None:
        """Write what waits. now: also to a store that was away a moment ago. What it refuses goes on waiting."""
        started, count = time.monotonic(), len(self._waiting)
        if self._away and started < self._flush_at and not now:
            return
        try:
            if not self._open:
                self._begin()
            self._write()
            if self._away or not self._watcher:
                self._watch()
        except Exception as error:  # whatever it is, the hours of training are worth more
            if not self._away:
                _complain(error, "training goes on, its values wait")
            self._away = True
            ended = time.monotonic()
            self._flush_at = ended + max(RETRY_SECONDS, (ended - started) / RETRY_SHARE)
            return
        if self._away:
            _say(f"{store_name()} can be written to again; what waited is there, {count:,} values")
        self._away = False
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._write_files()

    def figure(self, figure: Figure, name: str) -> None:
        """Keep a matplotlib figure; name: its file, `curves.png`."""
        self._files.append((name, lambda client, run_id: client.log_figure(run_id, figure, f"figures/{name}")))
        self.flush()

    def model(self, weights: str | Path) -> None:
        """Keep weights for use as a model: `mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)`, where `pose` is installed."""

        def log(client: mlflow.MlflowClient, run_id: str) -> None:
            digest = file_hash(Path(weights))
            if client.get_run(run_id).data.tags.get(MODEL_TAG) == digest:  # a finished run was started once more
                return
            mlflow.pyfunc.log_model(
                name="model", loader_module="pose.pyfunc_model", data_path=str(weights), pip_requirements=_requirements()
            )
            client.set_tag(run_id, MODEL_TAG, digest)

        self._files.append(("the model", log))
        self.flush()

    def finish(self, status: Status = "FINISHED") -> None:
        """Try once more to write what waits, and say what could not be; end the run and the watching of the system."""
        if self._ended:
            return
        self._ended = True
        self.flush(now=True)
        if self._away:
            left = [f"{len(self._waiting):,} values", *(name for name, _ in self._files)]
            _say(f"{', '.join(left)} could not be written to {store_name()}; the history is in {Folders(self._task).plots}")
        if self._watcher:
            self._watcher.finish()
        if self._open:
            try:
                mlflow.end_run(status)
            except Exception as error:
                if not self._away:
                    _complain(error, f"run {self.run_id} stays open")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asked_to_end = kind is not None and issubclass(kind, (Interrupted, KeyboardInterrupt, SystemExit))
        self.finish("FINISHED" if kind is None else "KILLED" if asked_to_end else "FAILED")

    def _keep(self, value: Value) -> None:
        name, _, _, step = value
        if step <= self._last.get(name, -1):
            return
        if len(self._waiting) == MOST_WAITING and not self._overflown:
            self._overflown = True
            _say(f"more than {MOST_WAITING:,} values wait; the oldest are left out, the history is in {Folders(self._task).plots}")
        self._last[name] = step
        self._waiting.append(value)

    def _begin(self) -> None:
        with writable() as client:
            experiment = experiment_id(client)
        earlier = self._earlier(client)
        run = mlflow.start_run(
            run_id=earlier,
            experiment_id=None if earlier else experiment,
            run_name=None if earlier else " ".join(filter(None, [self._task, os.environ.get("DVC_EXP_NAME")])),
        )
        self._open, self.run_id = True, run.info.run_id
        self._unwritten = {key: value for key, value in self._params.items() if key not in run.data.params}
        # Only the last value of each metric: whole histories take minutes, of the runs that are worth going on with.
        stored = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self._waiting = deque((value for value in self._waiting if value[3] > stored.get(value[0], -1)), MOST_WAITING)
        self._last = {name: max(step, self._last.get(name, -1)) for name, step in (self._last | stored).items()}
        if self._id_file:
            write_text(self._id_file, self.run_id)

    def _earlier(self, client: mlflow.MlflowClient) -> str | None:
        """The run to go on with: that of the resume state, or one that has begun since that was saved."""
        if not self.run_id and not self._waiting:
            return None
        later = self._id_file.read_text(encoding="utf-8").strip() if self._id_file and self._id_file.exists() else None
        why_not = {}
        for run_id in filter(None, (self.run_id, later)):
            run = active_run(client, run_id)
            stored = run.data.params if run else {}
            differing = [key for key, value in stored.items() if self._params.get(key) != value]
            if run and not differing:
                return run_id
            if differing:
                key = differing[0]
                self._tags["resumed_from"] = run_id
                why_not[run_id] = f"has other parameters ({key} was {stored[key]}, is {self._params.get(key)}); a new one begins here"
            else:
                why_not[run_id] = f"is gone; a new one begins here, what was before is in {Folders(self._task).plots}"
        if self.run_id:
            _say(f"run {self.run_id} {why_not[self.run_id]}")
            self.run_id = None
        return None

    def _write(self) -> None:
        assert self.run_id is not None
        client = mlflow.MlflowClient()
        while self._unwritten or self._tags or self._waiting:
            params = list(islice(self._unwritten.items(), PARAM_BATCH))
            tags = list(islice(self._tags.items(), TAG_BATCH))
            values = list(islice(self._waiting, METRIC_BATCH))
            client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, milliseconds, step) for name, value, milliseconds, step in values],
                params=[Param(key, value) for key, value in params],
                tags=[RunTag(key, value) for key, value in tags],
            )
            for key, _ in params:
                del self._unwritten[key]
            for key, _ in tags:
                del self._tags[key]
            for _ in values:
                self._waiting.popleft()

    def _write_files(self) -> None:
        assert self.run_id is not None
        while self._files:
            name, write = self._files.popleft()
            try:
                write(mlflow.MlflowClient(), self.run_id)
            except Exception as error:
                _complain(error, f"{name} is not kept there")

    def _watch(self) -> None:
        """Sample the system's load. MLflow's watcher ends for ever at the first answer that it does not get."""
        if self._watcher:
            self._watcher.finish()
        self._watcher = SystemMetricsMonitor(self.run_id, sampling_interval=SYSTEM_SECONDS, resume_logging=True)
        self._watcher.start()


def log_scores(run_id_file: Path, tables: Mapping[str, Mapping[str, float]], *, weights: str) -> None:
    """Add the figures of an evaluation to the run that wrote the weights with that hash, as `test/TABLE/FIGURE`.

    That is the one that trained in this folder last, whose id is in the file, unless older weights were brought back. Where no run is
    known nothing is written, and said only if there should be one.
    """
    run_id = run_id_file.read_text().strip() if run_id_file.exists() else ""
    if not run_id:
        return
    now = int(time.time() * 1000)
    figures = {metric_name(f"test/{table}/{name}"): float(value) for table, row in tables.items() for name, value in row.items()}
    try:
        with writable() as client:
            run = active_run(client, run_id)
        if run is None or weights not in (run.data.tags.get("weights_last"), run.data.tags.get("weights_best")):
            run = next(iter(runs_that_wrote(weights)), None)
        if run is None:
            _say(f"{store_name()} has no run that wrote these weights ({weights}); the figures are in metrics/")
            return
        run_id, known = run.info.run_id, run.data.metrics
        new = {name: value for name, value in figures.items() if math.isfinite(value) and known.get(name) != value}
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in new.items()])
    except Exception as error:
        _complain(error, "the figures are in metrics/")


def metric_name(name: str) -> str:
    """The name as MLflow allows it: `PCKh@0.5` becomes `PCKh_at_0.5`, whatever else it refuses an underscore."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def _complain(error: Exception, consolation: str) -> None:
    _say(f"{store_name()} cannot be written to ({reason_of(error)}); {consolation}")


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr)


def _tags(task: str, data_hash: str) -> dict[str, str]:
    tags = {"task": task, "data_hash": data_hash}
    tags |= {name: os.environ[name] for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE") if os.environ.get(name)}
    if revision := git("rev-parse", "HEAD"):
        # MLflow's own name for it is what its pages show as the version.
        tags |= {"mlflow.source.git.commit": revision, "git_revision": revision}
        tags["git_dirty"] = str(changed()).lower()
    return tags


def _requirements() -> list[str]:
    try:
        return [line for line in requires("pose") or [] if "extra ==" not in line]
    except PackageNotFoundError:  # run from its folder, not installed
        return []
