"""One task as its stages left it: its metrics and its history, read once for all that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from pose.io.files import read_json
from pose.io.paths import PREPARED, TaskPaths
from pose.metrics.monitored import MONITORED, Metric, monitored_in
from pose.params import MultiParams, Params, SingleParams, TaskParams
from pose.report.charts import SERIES
from pose.report.files import read_committed_metrics, read_history, read_metrics, try_read
from pose.tasks.fingerprint import changed_params

# By problem: how many samples were evaluated, by name; places in metrics/TASK.json.
COUNTS = {
    "single": {
        "people": "people.all",
        "for PCKh": "people.with head size",
        "for PCK": "people.with reference length",
    },
    "multi": {"people": "images.people", "images": "images.all"},
}
PUBLISHED_SETS = {"single": "lsp_mpii", "multi": "coco"}
UNITS = {"single": "people", "multi": "images"}  # what a batch is counted in


@dataclass(frozen=True)
class Run:
    """metrics: by dotted place in metrics/TASK.json. train, val: the histories, None if `missing` says why.

    train_time: seconds of training, over all restarts, at each validation; None where it is unknown.
    committed: `metrics` of the last commit, empty where it has none. changed: the parameters that have other
    values now than the weights were trained by, in words. source: of the data that they were trained on.
    """

    params: Params
    paths: TaskPaths
    metrics: Mapping[str, float]
    train: pd.DataFrame | None
    val: pd.DataFrame | None
    train_time: pd.DataFrame | None
    missing: tuple[str, ...]
    committed: Mapping[str, float]
    changed: str
    source: str

    @property
    def task(self) -> str:
        """Its name in params.yaml."""
        return self.paths.task

    @property
    def spec(self) -> TaskParams:
        """Its parameters."""
        return self.params.task(self.task)

    @property
    def is_built_in(self) -> bool:
        """Whether it is of `data.root`."""
        return self.spec.dataset in PREPARED

    @property
    def problem(self) -> SingleParams | MultiParams:
        """The parameters of its problem, with what it overrides of them."""
        return self.params.problem(self.task)

    @property
    def is_published(self) -> bool:
        """Whether it is of a set that published metrics of its problem are of, or its synthetic likeness."""
        return self.spec.dataset == PUBLISHED_SETS[self.spec.problem]

    @property
    def data(self) -> str:
        """What its data are called."""
        return self.source if self.is_built_in else self.spec.dataset

    @property
    def unit(self) -> str:
        """What a batch is counted in."""
        return UNITS[self.spec.problem]

    @property
    def val_samples(self) -> str:
        """What validation while training looks at, in words."""
        held_out = isinstance(self.problem, SingleParams) or self.problem.held_out > 0
        return f"{self.unit} {'held out of training' if held_out else 'trained on'}"

    @property
    def monitored(self) -> list[tuple[Metric, float]]:
        """The monitored metrics that it has, and their values."""
        values = monitored_in(self.spec.problem, self.metrics)
        return [
            (metric, values[metric.name]) for metric in MONITORED[self.spec.problem] if metric.name in values
        ]

    def change(self, metric: Metric) -> float | None:
        """Of a metric since the last commit; None where either lacks it."""
        before, now = self.committed.get(metric.path), self.metrics.get(metric.path)
        return None if before is None or now is None else now - before

    @property
    def colour(self) -> str:
        """Of its line beside others: of a task with an adversary beside the plain one, and others like it."""
        if self.spec.adversary is None:
            return SERIES[1]
        plain = plain_task(self.params, self.task)
        alike = [task for task in self.params.tasks if plain and plain_task(self.params, task) == plain]
        place = alike.index(self.task) if plain else 0
        return SERIES[(place + 1) % len(SERIES) if place else 0]

    @property
    def counts(self) -> dict[str, int]:
        """How many people and images were evaluated, where known and not none."""
        places = COUNTS[self.spec.problem]
        return {name: int(self.metrics[place]) for name, place in places.items() if self.metrics.get(place)}

    @property
    def steps(self) -> int:
        """Of training, 0 if unknown."""
        return max(
            (int(table["step"].max()) for table in (self.train, self.val) if table is not None), default=0
        )

    @property
    def seconds(self) -> float | None:
        """Of training, over all restarts; None if unknown."""
        return None if self.train_time is None else float(self.train_time["seconds"].max())

    @property
    def training_time(self) -> str:
        """In words."""
        if self.seconds is None:
            return "unknown"
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours} h {minutes} min"
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    @property
    def anchor(self) -> str:
        """Id of its section in the page."""
        return f"task-{list(self.params.tasks).index(self.task)}"


def plain_task(params: Params, task: str) -> str | None:
    """The task that is equal to this one but for its adversary; None where there is none."""
    spec = params.task(task)
    if spec.adversary is None:
        return None
    plain = spec.model_copy(update={"adversary": None})
    return next((name for name, other in params.tasks.items() if other == plain), None)


def read_run(params: Params, task: str, root: Path) -> Run:
    """What there is of an evaluated task; UserError if its metrics are damaged."""
    paths, missing = TaskPaths(task, root), list[str]()
    train, val = (
        try_read(missing, partial(read_history, paths.plots / f"{name}.csv", "step"))
        for name in ("train", "val")
    )
    # No output of a stage: weights from DVC's cache come without it, or with that of a run since.
    train_time = try_read([], lambda: read_history(paths.train_time, "step", "seconds"))
    if val is None or train_time is None or not val["step"].equals(train_time["step"]):
        train_time = None
    metrics, committed = read_metrics(paths.metrics), read_committed_metrics(task, root)
    provenance = try_read([], lambda: read_json(paths.provenance))
    trained = provenance.get("trained") if isinstance(provenance, dict) else None
    trained = trained if isinstance(trained, dict) else {}
    changes = changed_params(params, task, trained) if trained else {}
    source = str(trained.get("source", params.data_source(task)))
    changed = ", ".join(f"{key} {values}" for key, values in changes.items())
    return Run(params, paths, metrics, train, val, train_time, tuple(missing), committed, changed, source)
