"""The page: one section a task, as far as its files are there, and what the tasks share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from pose import draw
from pose.errors import UserError
from pose.folders import PREPARED, Folders
from pose.params import Params, flatten
from pose.report import single
from pose.report.charts import INK, SERIES, Line, line_chart, smoothed
from pose.report.content import Chart, Findings, Section, Table
from pose.report.files import read_history, read_metrics

POINTS = 400  # of a curve at most: more cannot be told apart, and each costs bytes


@dataclass(frozen=True)
class Kind:
    """How tasks of one problem are shown: by which function, under which heading of params.yaml, and their accuracies in valid.csv.

    title: name of an accuracy for a column of valid.csv, "" for one that is not drawn. top: of the accuracy's axis.
    """

    summary: str
    findings: Callable[[Params, str, Mapping[str, float], Path], Findings]
    title: Callable[[str], str]
    top: float


KINDS = {"single": Kind("one person a picture", single.findings, single.history_title, 100.0)}


def write_report(
    params: Params, *, revision: str, machine: Mapping[str, str], root: str | Path = ".", folder: str | Path = "report"
) -> list[str]:
    """Write `index.html` and `summary.md` into `folder`, from the files that the stages left under `root`.

    revision, machine: what the page says about itself. Returns the names of the tasks shown: those with a `metrics/{task}.json`.
    UserError if there is none at all, or if one is damaged; whatever else is missing is named on the page.
    """
    root, folder = Path(root), Path(folder)
    shown = [task for task in params.tasks if (root / Folders(task).metrics).is_file()]
    if not shown:
        expected = ", ".join(str(Folders(task).metrics) for task in params.tasks)
        raise UserError(f"{root / 'metrics'}: no figures of any task, expected {expected}: run `dvc repro` first")
    sections = [_section(params, task, root) for task in shown]
    data, data_missing = _data(root)
    environment = Environment(
        loader=PackageLoader("pose"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("report.html").render(
        sections=sections,
        waiting=[task for task in params.tasks if task not in shown],
        data=data,
        data_missing=data_missing,
        data_root=params.data.root,
        shared=_shared_parameters(params),
        revision=revision,
        machine=machine,
        colours={"left": draw.ALONE[draw.LEFT], "middle": draw.ALONE[draw.MIDDLE], "right": draw.ALONE[draw.RIGHT]},
    )
    _write(folder / "index.html", page)
    _write(folder / "summary.md", _summary(sections, params, revision))
    return shown


def _section(params: Params, task: str, root: Path) -> Section:
    spec = params.task(task)
    kind = KINDS[spec.problem]
    found = kind.findings(params, task, read_metrics(root / Folders(task).metrics), root)
    anchor = re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-") + f"-{list(params.tasks).index(task)}"
    plots = root / Folders(task).plots
    histories: dict[str, pd.DataFrame] = {}
    for name in ("train", "valid"):
        try:
            histories[name] = read_history(plots / f"{name}.csv", "step")
        except UserError as error:
            found.missing.append(str(error))
    train, valid = histories.get("train"), histories.get("valid")
    curves = [] if valid is None else _valid_curves(valid, anchor, task, kind)
    curves += [] if train is None else _train_curves(train, anchor, task)
    network = spec.network
    summary = f"{kind.summary}; stacked hourglass of {network.stacks} × {network.modules}, {network.features} features"
    return Section(
        anchor=anchor,
        task=task,
        summary=summary + ("; with an adversary" if spec.adversary else ""),
        findings=found,
        facts=_facts(params, task, train, valid),
        curves=curves,
        parameters={
            f"tasks.{task}": _listed(spec.model_dump()),
            spec.problem: _listed(getattr(params, spec.problem).model_dump()),
        },
    )


def _facts(params: Params, task: str, train: pd.DataFrame | None, valid: pd.DataFrame | None) -> dict[str, str]:
    spec = params.task(task)
    facts = {}
    if valid is not None and "seconds" in valid:
        facts["Time taken to train"] = _duration(float(valid["seconds"].max()))
    steps = max((int(table["step"].max()) for table in (train, valid) if table is not None), default=0)
    if steps:
        facts["Steps"] = f"{steps:,} of {spec.batch} people"
    if valid is not None and "epoch" in valid:
        facts["Epochs"] = f"{valid['epoch'].max():g} of {spec.epochs}"
    facts["Learning rate"] = f"{params.lr * spec.lr_scale:g} at its peak ({params.lr:g} × {spec.lr_scale:g})"
    facts["Weights tested"] = {"last": "those of the last step", "best": "those best on validation people, who are tested here too"}[
        params.evaluate.weights
    ]
    return facts


def _valid_curves(valid: pd.DataFrame, anchor: str, task: str, kind: Kind) -> list[Chart]:
    titles = {str(column): kind.title(str(column)) for column in valid.columns if kind.title(str(column))}
    charts = []
    axes = [("step", "step", valid["step"].to_numpy())]
    if "seconds" in valid:
        axes.append(("time", "minutes of training", valid["seconds"].to_numpy() / 60))
    for over, x_label, x in axes if titles else ():
        lines = [Line(title, *_pairs(x, valid[column]), SERIES[number]) for number, (column, title) in enumerate(titles.items())]
        title = f"Validation accuracy over {'steps' if over == 'step' else 'time'}"
        svg = line_chart(lines, name=f"{anchor}-valid-{over}", title=f"{title}, {task}", x_label=x_label, y_limits=(0, kind.top))
        charts.append(Chart(title, svg, " and ".join(titles.values()) if len(titles) == 1 else "Over people held out of training."))
    if "loss" in valid:
        line = Line("loss", *_pairs(valid["step"].to_numpy(), valid["loss"]), INK)
        svg = line_chart(
            [line], name=f"{anchor}-valid-loss", title=f"Validation loss, {task}", x_label="step", log=bool((line.y > 0).all())
        )
        charts.append(Chart("Validation loss", svg))
    return charts


def _train_curves(train: pd.DataFrame, anchor: str, task: str) -> list[Chart]:
    terms = [str(column) for column in train.columns if column not in ("step", "lr")]
    if len(terms) == 2 and "loss" in terms and np.allclose(train[terms[0]], train[terms[1]]):
        terms.remove("loss")  # one term of weight 1 is the loss
    charts = []
    for number, term in enumerate(terms):
        x, y = _thinned(*_pairs(train["step"].to_numpy(), train[term]))
        log = bool((y > 0).all()) and y.max() > 5 * y.min()
        lines = (
            [Line(term, x, y, SERIES[1], faint=True), Line(term, x, smoothed(y), SERIES[1])]
            if len(y) > 20
            else [Line(term, x, y, SERIES[1])]
        )
        title = "Training loss" if term == "loss" else f"Training loss: {term}"
        svg = line_chart(lines, name=f"{anchor}-train-{number}", title=f"{title}, {task}", x_label="step", log=log)
        charts.append(Chart(title, svg, "Mean of the steps between two records, and smoothed." if len(y) > 20 else ""))
    if "lr" in train:
        x, y = _thinned(*_pairs(train["step"].to_numpy(), train["lr"]))
        svg = line_chart([Line("lr", x, y, INK)], name=f"{anchor}-lr", title=f"Learning rate, {task}", x_label="step")
        charts.append(Chart("Learning rate", svg))
    return charts


def _pairs(x_N: np.ndarray, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    y_N = column.to_numpy(dtype=np.float64)
    known = np.isfinite(y_N)
    return np.asarray(x_N, dtype=np.float64)[known], y_N[known]


def _thinned(x_N: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of its stretch and standing at its end, where training logs stand too."""
    if len(x_N) <= POINTS:
        return x_N, y_N
    starts = np.linspace(0, len(x_N), POINTS, endpoint=False).astype(int)
    ends = np.append(starts[1:], len(x_N))
    return x_N[ends - 1], np.add.reduceat(y_N, starts) / (ends - starts)


def _data(root: Path) -> tuple[Table | None, str]:
    try:
        return single.data_table(root / PREPARED), ""
    except UserError as error:
        return None, str(error)


def _shared_parameters(params: Params) -> dict[str, list[tuple[str, str]]]:
    """What all tasks have in common; not the headings of problems, which stand with their tasks."""
    values = params.model_dump()
    groups = {"": _listed({name: value for name, value in values.items() if not isinstance(value, dict)})}
    groups |= {name: _listed(value) for name, value in values.items() if isinstance(value, dict) and name not in {"tasks", *KINDS}}
    return groups


def _listed(values: Mapping[str, object]) -> list[tuple[str, str]]:
    def shown(value: object) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or "none"
        return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return [(name, shown(value)) for name, value in flatten(values).items()]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _summary(sections: list[Section], params: Params, revision: str) -> str:
    """One row a task, for a comment under a pull request."""

    def plain(text: str) -> str:
        return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")

    lines = ["| task | figures | tested on | time taken |", "| --- | --- | --- | --- |"]
    for section in sections:
        figures = ", ".join(f"{name} {value}" for name, value in section.findings.headline.items())
        people = section.findings.people or "not known"
        cells = (section.task, figures or "none", f"{params.data.root}: {people}", section.facts.get("Time taken to train", "not known"))
        lines.append("| " + " | ".join(plain(cell) for cell in cells) + " |")
    return "\n".join(lines) + f"\n\nRevision {plain(revision)}.\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
