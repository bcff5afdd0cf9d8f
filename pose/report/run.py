"""One task as its stages left it: its figures and its history, read once for all that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pose.io.errors import UserError
from pose.io.paths import TaskPaths
from pose.params import Params, TaskParams
from pose.report import multi, single
from pose.report.content import Findings, Table
from pose.report.files import read_history, read_metrics


@dataclass(frozen=True)
class Kind:
    """How tasks of one problem, the name of whose heading in params.yaml is `multi` or `single`, are shown.

    findings: what their files say. data: the table of the prepared set under a folder. headline: of
    metrics/{task}.json, and what these figures, shown with so many `digits`, are called there and in
    valid.csv; the first is what tasks are compared by. top: the most they can be. tested: of the same file,
    how many of what were tested. things: what a batch is counted in. watched: what is looked at while
    training, and chooses the best weights. tested_too: what must be said of weights so chosen.
    """

    summary: str
    findings: Callable[[Params, str, Mapping[str, float], Path], Findings]
    data: Callable[[Path], Table]
    headline: Mapping[str, str]
    digits: int
    top: float
    tested: Mapping[str, str]
    things: str
    watched: Callable[[Params], str]
    tested_too: str = ""


KINDS = {
    "single": Kind(
        summary="one person a picture",
        findings=single.findings,
        data=single.data_table,
        headline=single.HEADLINE,
        digits=1,
        top=100.0,
        tested={"people.all": "people"},
        things="people",
        watched=lambda _: "people held out of training",
        tested_too=", who are tested here too",
    ),
    "multi": Kind(
        summary="all people of a picture",
        findings=multi.findings,
        data=multi.data_table,
        headline=multi.HEADLINE,
        digits=3,
        top=1.0,
        tested={"images.people": "people", "images.all": "images"},
        things="images",
        watched=multi.watched,
    ),
}


@dataclass(frozen=True)
class Run:
    """figures: by the dotted names of metrics/{task}.json.

    Train, valid: the histories, None if they cannot be read, as `missing` says. clock: seconds of training at
    each validation, None where the weights were trained elsewhere.
    """

    task: str
    spec: TaskParams
    figures: Mapping[str, float]
    train: pd.DataFrame | None
    valid: pd.DataFrame | None
    clock: pd.DataFrame | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What all tasks of its problem have in common."""
        return KINDS[self.spec.problem]

    @property
    def headline(self) -> dict[str, float]:
        """The figures that it is known by."""
        return {name: self.figures[key] for key, name in self.kind.headline.items() if key in self.figures}

    @property
    def seconds(self) -> float | None:
        """Of training, all starts together; None if nothing says so."""
        return None if self.train_time is None else float(self.train_time["seconds"].max())

    @property
    def steps(self) -> int:
        """Of training, 0 if nothing says so."""
        return max(
            (int(table["step"].max()) for table in (self.train, self.valid) if table is not None), default=0
        )

    def summary(self) -> dict[str, float]:
        """The headline, how many were tested, and steps of training, as far as they are known.

        For `metrics/summary.json`.
        """
        tested = {
            name: int(self.figures[key]) for key, name in self.kind.tested.items() if key in self.figures
        }
        steps = {"steps": self.steps} if self.steps else {}
        return self.headline | tested | steps


def read_run(params: Params, task: str, root: Path) -> Run:
    """What there is of a task that has been evaluated; UserError if its figures are damaged."""
    plots, missing = root / TaskPaths(task).plots, []
    histories: dict[str, pd.DataFrame] = {}
    for name in ("train", "val"):
        try:
            histories[name] = read_history(plots / f"{name}.csv", "step")
        except UserError as error:
            missing.append(str(error))
    figures = read_metrics(root / TaskPaths(task).metrics)
    return Run(
        task,
        params.task(task),
        figures,
        histories.get("train"),
        histories.get("val"),
        _read_clock(root, task),
        missing,
    )


def _read_clock(root: Path, task: str) -> pd.DataFrame | None:
    try:
        clock = read_history(root / TaskPaths(task).train_time, "step")
    except UserError:  # no output of a stage: weights from DVC's cache or from elsewhere come without it
        return None
    return clock if "seconds" in clock else None
