"""The page: one section a task, as far as its files are there, and what the tasks share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pose.io.errors import UserError
from pose.io.files import write_json, write_text
from pose.io.paths import TaskPaths
from pose.io.schema import flatten
from pose.params import Params
from pose.report.adversary import GAME, comparisons, game_charts
from pose.report.charts import INK, SERIES, Line, line_chart, pairs, thinned, with_smoothed
from pose.report.content import Chart, Section, Table
from pose.report.run import KINDS, Kind, Run, read_run
from pose.report.study import STUDY, study_blocks

SUMMARY = Path("metrics/summary.json")


def write_report(
    params: Params,
    *,
    revision: str,
    machine: Mapping[str, str],
    root: str | Path = ".",
    folder: str | Path = "report",
) -> list[str]:
    """Write `index.html` and `summary.md` into `folder`, and `metrics/summary.json`, from the files that the stages left under `root`.

    revision, machine: what the page says about itself. Returns the names of the tasks shown: those with a
    `metrics/{task}.json`. UserError if there is none at all, or if one is damaged; whatever else is missing
    is named on the page.
    """
    root, folder = Path(root), Path(folder)
    if SUMMARY.stem in params.tasks:
        raise UserError(
            f"params.yaml: tasks.{SUMMARY.stem}: {SUMMARY} is for the figures of all tasks, expected another name"
        )
    shown = [task for task in params.tasks if (root / TaskPaths(task).metrics).is_file()]
    if not shown:
        expected = ", ".join(str(TaskPaths(task).metrics) for task in params.tasks)
        raise UserError(
            f"{root / 'metrics'}: no figures of any task, expected {expected}: run `dvc repro` first"
        )
    runs = {task: read_run(params, task, root) for task in shown}
    sections = [_section(params, run, root) for run in runs.values()]
    adversary, adversary_missing = comparisons(params, runs), []
    try:
        adversary += study_blocks(root / STUDY)
    except UserError as error:
        adversary_missing.append(str(error))
    data, data_missing = _data(
        [kind for kind in KINDS.values() if kind in [run.kind for run in runs.values()]], root
    )
    environment = Environment(
        loader=PackageLoader("pose.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("report.html").render(
        sections=sections,
        waiting=[task for task in params.tasks if task not in shown],
        adversary=adversary,
        adversary_missing=adversary_missing,
        data=data,
        data_missing=data_missing,
        data_root=params.data.root,
        shared=_shared_parameters(params),
        revision=revision,
        machine=machine,
    )
    write_text(folder / "index.html", page)
    write_text(folder / "summary.md", _summary(sections, params, revision))
    write_json(root / SUMMARY, {run.task: run.summary() for run in runs.values()})
    return shown


def _section(params: Params, run: Run, root: Path) -> Section:
    spec, kind = run.spec, run.kind
    found = kind.findings(params, run.task, run.figures, root)
    found.missing += run.missing
    anchor = (
        re.sub(r"[^a-z0-9]+", "-", run.task.lower()).strip("-") + f"-{list(params.tasks).index(run.task)}"
    )
    game = []
    if spec.adversary and run.train is not None:
        game = game_charts(run.train, spec.adversary, anchor, run.task)
        if not game:
            found.missing.append(
                f"{root / TaskPaths(run.task).plots / 'train.csv'}: no columns {', '.join(GAME)}: no step of the game is on record"
            )
    return Section(
        anchor=anchor,
        task=run.task,
        summary=f"{kind.summary}; {spec.network}" + ("; with an adversary" if spec.adversary else ""),
        headline={name: f"{value:.{kind.digits}f}" for name, value in run.headline.items()},
        findings=found,
        facts=_facts(params, run),
        curves=_valid_curves(run, anchor, kind.watched(params)) + _train_curves(run, anchor),
        game=game,
        parameters={
            f"tasks.{run.task}": _listed(spec.model_dump()),
            spec.problem: _listed(params.problem(spec.problem).model_dump()),
        },
    )


def _facts(params: Params, run: Run) -> dict[str, str]:
    spec, kind = run.spec, run.kind
    facts = {}
    if run.seconds is not None:
        facts["Time taken to train"] = _duration(run.seconds)
    if run.steps:
        facts["Steps"] = f"{run.steps:,} of {spec.batch} {kind.things}"
    if run.valid is not None and "epoch" in run.valid:
        facts["ResumableBatchSampler"] = f"{run.valid['epoch'].max():g} of {spec.epochs}"
    facts["Learning rate"] = f"{params.lr * spec.lr_scale:g} at its peak ({params.lr:g} × {spec.lr_scale:g})"
    best = f"those best on {kind.watched(params)}{kind.tested_too}"
    facts["Weights tested"] = {"last": "those of the last step", "best": best}[params.evaluate.weights]
    return facts


def _valid_curves(run: Run, anchor: str, watched: str) -> list[Chart]:
    valid = run.valid
    names = [] if valid is None else [name for name in run.kind.headline.values() if name in valid]
    if valid is None or not names:
        return []
    charts = []
    axes = [("step", "step", valid["step"].to_numpy())]
    if run.clock is not None and run.clock["step"].tolist() == valid["step"].tolist():
        axes.append(("time", "minutes of training", run.clock["seconds"].to_numpy() / 60))
    for over, x_label, x in axes:
        lines = [Line(name, *pairs(x, valid[name]), SERIES[number]) for number, name in enumerate(names)]
        title = f"Validation accuracy over {'steps' if over == 'step' else 'time'}"
        svg = line_chart(
            lines,
            name=f"{anchor}-valid-{over}",
            title=f"{title}, {run.task}",
            x_label=x_label,
            y_limits=(0, run.kind.top),
        )
        charts.append(
            Chart(title, svg, f"{names[0]}, over {watched}." if len(names) == 1 else f"Over {watched}.")
        )
    return charts


def _train_curves(run: Run, anchor: str) -> list[Chart]:
    train = run.train
    if train is None:
        return []
    terms = [str(column) for column in train.columns if column not in ("step", "lr", *GAME)]
    if len(terms) == 2 and "loss" in terms and np.allclose(train[terms[0]], train[terms[1]]):
        terms.remove("loss")  # one term of weight 1 is the loss
    charts = []
    for number, term in enumerate(terms):
        x, y = thinned(*pairs(train["step"].to_numpy(), train[term]))
        log = bool((y > 0).all()) and y.max() > 5 * y.min()
        lines = with_smoothed(Line(term, x, y, SERIES[1]))
        title = "Training loss" if term == "loss" else f"Training loss: {term}"
        svg = line_chart(
            lines, name=f"{anchor}-train-{number}", title=f"{title}, {run.task}", x_label="step", log=log
        )
        charts.append(
            Chart(
                title, svg, "Mean of the steps between two records, and smoothed." if len(lines) > 1 else ""
            )
        )
    if "lr" in train:
        x, y = thinned(*pairs(train["step"].to_numpy(), train["lr"]))
        svg = line_chart(
            [Line("lr", x, y, INK)], name=f"{anchor}-lr", title=f"Learning rate, {run.task}", x_label="step"
        )
        charts.append(Chart("Learning rate", svg))
    return charts


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
    groups |= {
        name: _listed(value)
        for name, value in values.items()
        if isinstance(value, dict) and name not in {"tasks", *KINDS}
    }
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
        figures = ", ".join(f"{name} {value}" for name, value in section.headline.items())
        people = section.findings.people or "not known"
        cells = (
            section.task,
            figures or "none",
            f"{params.data.root}: {people}",
            section.facts.get("Time taken to train", "not known"),
        )
        lines.append("| " + " | ".join(plain(cell) for cell in cells) + " |")
    return "\n".join(lines) + f"\n\nRevision {plain(revision)}.\n"
