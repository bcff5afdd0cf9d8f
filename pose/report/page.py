"""The page: one section a task, as far as its files are there, and what the tasks share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from pose.errors import UserError
from pose.files import write_text
from pose.folders import Folders
from pose.params import AEParams, HourglassParams, Params, flatten
from pose.report import multi, single
from pose.report.charts import INK, SERIES, Line, line_chart, smoothed
from pose.report.content import Chart, Findings, Section, Table
from pose.report.files import read_history, read_metrics

POINTS = 400  # of a curve at most: more cannot be told apart, and each costs bytes


@dataclass(frozen=True)
class Kind:
    """How tasks of one problem, the name of whose heading in params.yaml is `multi` or `single`, are shown.

    findings: what their files say. data: the table of the prepared set under a folder. curves: columns of valid.csv that are drawn, on an
    axis up to `top`. things: what a batch is counted in. watched: what is looked at while training, and chooses the best weights.
    tested_too: what must be said of weights so chosen.
    """

    summary: str
    findings: Callable[[Params, str, Mapping[str, float], Path], Findings]
    data: Callable[[Path], Table]
    curves: Collection[str]
    top: float
    things: str
    watched: Callable[[Params], str]
    tested_too: str = ""


KINDS = {
    "single": Kind(
        summary="one person a picture",
        findings=single.findings,
        data=single.data_table,
        curves=single.HEADLINE.values(),
        top=100.0,
        things="people",
        watched=lambda _: "people held out of training",
        tested_too=", who are tested here too",
    ),
    "multi": Kind(
        summary="all people of a picture",
        findings=multi.findings,
        data=multi.data_table,
        curves=multi.HEADLINE,
        top=1.0,
        things="images",
        watched=multi.watched,
    ),
}


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
    data, data_missing = _data([kind for name, kind in KINDS.items() if name in {params.task(task).problem for task in shown}], root)
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
    )
    write_text(folder / "index.html", page)
    write_text(folder / "summary.md", _summary(sections, params, revision))
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
    curves = [] if valid is None else _valid_curves(valid, anchor, task, kind, kind.watched(params))
    curves += [] if train is None else _train_curves(train, anchor, task)
    return Section(
        anchor=anchor,
        task=task,
        summary=f"{kind.summary}; {_network(spec.network)}" + ("; with an adversary" if spec.adversary else ""),
        findings=found,
        facts=_facts(params, task, train, valid, kind),
        curves=curves,
        parameters={
            f"tasks.{task}": _listed(spec.model_dump()),
            spec.problem: _listed(params.problem(spec.problem).model_dump()),
        },
    )


def _network(network: HourglassParams | AEParams) -> str:
    if network.kind == "ae":
        return f"associative-embedding hourglass of {network.stacks}, {network.features} features, {network.increase} more a level"
    return f"stacked hourglass of {network.stacks} × {network.modules}, {network.features} features"


def _facts(params: Params, task: str, train: pd.DataFrame | None, valid: pd.DataFrame | None, kind: Kind) -> dict[str, str]:
    spec = params.task(task)
    facts = {}
    if valid is not None and "seconds" in valid:
        facts["Time taken to train"] = _duration(float(valid["seconds"].max()))
    steps = max((int(table["step"].max()) for table in (train, valid) if table is not None), default=0)
    if steps:
        facts["Steps"] = f"{steps:,} of {spec.batch} {kind.things}"
    if valid is not None and "epoch" in valid:
        facts["Epochs"] = f"{valid['epoch'].max():g} of {spec.epochs}"
    facts["Learning rate"] = f"{params.lr * spec.lr_scale:g} at its peak ({params.lr:g} × {spec.lr_scale:g})"
    best = f"those best on {kind.watched(params)}{kind.tested_too}"
    facts["Weights tested"] = {"last": "those of the last step", "best": best}[params.evaluate.weights]
    return facts


def _valid_curves(valid: pd.DataFrame, anchor: str, task: str, kind: Kind, watched: str) -> list[Chart]:
    names = [name for name in kind.curves if name in valid]
    charts = []
    axes = [("step", "step", valid["step"].to_numpy())]
    if "seconds" in valid:
        axes.append(("time", "minutes of training", valid["seconds"].to_numpy() / 60))
    for over, x_label, x in axes if names else ():
        lines = [Line(name, *_pairs(x, valid[name]), SERIES[number]) for number, name in enumerate(names)]
        title = f"Validation accuracy over {'steps' if over == 'step' else 'time'}"
        svg = line_chart(lines, name=f"{anchor}-valid-{over}", title=f"{title}, {task}", x_label=x_label, y_limits=(0, kind.top))
        charts.append(Chart(title, svg, f"{names[0]}, over {watched}." if len(names) == 1 else f"Over {watched}."))
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


def _data(kinds: list[Kind], root: Path) -> tuple[list[Table], list[str]]:
    """The tables of the prepared sets, and what is wrong with those that cannot be read."""
    tables, missing = [], []
    for kind in kinds:
        try:
            tables.append(kind.data(root))
        except UserError as error:
            missing.append(str(error))
    return tables, missing


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
