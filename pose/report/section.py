"""The section of one task, or of a task beside the same one with an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from pose.metrics.monitored import MONITORED, TRAIN_PREFIX, Metric
from pose.report import multi, single
from pose.report.adversary import COLUMNS, adversary_charts, start_step
from pose.report.charts import Line, column_line, line_chart, needs_log_scale, with_smoothed
from pose.report.common import ProblemReport, curve_chart, error_table, signed
from pose.report.content import Block, Cell, Chart, PageImage, Row, Section, Table
from pose.report.files import read_history, try_read
from pose.report.run import Run
from pose.tasks.base import ProblemData

PROBLEMS: dict[str, ProblemReport] = {"single": single.REPORT, "multi": multi.REPORT}
FIRST_CHARTS = 4  # that are not folded: a row of the page


def task_section(
    runs: Sequence[Run], data: ProblemData | None, missing: Sequence[str], typical: int
) -> tuple[Section, list[PageImage]]:
    """From whichever files there are of runs of one problem; and so many typical images of each.

    data, missing: the prepared set, or why it cannot be used.
    """
    report = PROBLEMS[runs[0].spec.problem]
    missing = [*(line for run in runs for line in run.missing), *missing]
    skeleton = None if data is None else data.skeleton
    joints = len(skeleton) if skeleton else None
    curves, rankings, tables = {}, {}, []
    for run in runs:
        read = partial(read_history, run.paths.plots / report.curve.file, report.curve.x)
        curves[run.task] = try_read(missing, read)
        table = try_read(missing, partial(report.joints, run.paths.plots / "joints.csv", skeleton))
        tables.append(Block(f"Joint by joint, {run.task}", table=table, folded=True))
        path = run.paths.predictions(report.suffix)
        found = try_read(missing, partial(report.read_predictions, path, joints))
        if data is not None and found is not None:
            rankings[run.task] = try_read(missing, partial(report.ranking, run, data, found))
    known = {task: ranking for task, ranking in rankings.items() if ranking}
    tables_of = {task: one for task, one in curves.items() if one is not None}
    curve = curve_chart(report.curve, runs, tables_of) if tables_of else None
    val = _val_charts(runs)
    charts = [*val[:1], *([curve] if curve else []), *_train_charts(runs)]
    charts, more = charts[:FIRST_CHARTS], charts[FIRST_CHARTS:] + val[1:]
    changed = "trained by other parameters than this page shows"
    cautions = [f"{run.task}: {changed}: {run.changed}" for run in runs if run.changed]
    blocks = [Block("Metrics", table=_metrics_table(runs), caution=cautions, half=True)]
    if known:
        blocks.append(Block("Errors", table=error_table(report.kinds, known), half=True))
    blocks += [Block("Curves", charts=charts), Block("More curves", charts=more, folded=True)]
    for run in runs:
        if run.spec.adversary and run.train is not None:
            charts = adversary_charts(run.train, run.spec.adversary, run.task)
            text = "Smoothed, from its first step on."
            blocks.append(Block(f"Adversarial training of {run.task}", text, charts=charts, folded=True))
            if not charts:
                path = run.paths.plots / "train.csv"
                missing.append(f"{path}: no columns {', '.join(COLUMNS)}: no adversarial step yet")
    most = runs[0].params.report.people
    blocks += [one.gallery(f"{one.unit.capitalize()} of {task}", most) for task, one in known.items()]
    blocks += [*tables, report.comparison(runs, data)]
    blocks.append(Block("Training", table=_training_table(runs), folded=True))
    section = Section(
        runs[0].anchor,
        " and ".join(run.task for run in runs),
        [block for block in blocks if block.charts or block.table or block.images],
        summary=f"{report.sample}; {runs[0].spec.network}",
        missing=list(dict.fromkeys(missing)),
    )
    images = [
        replace(image, caption=f"{task}: {image.caption}")
        for task, one in known.items()
        for image in one.typical(typical)
    ]
    return section, images


def _metrics_table(runs: Sequence[Run]) -> Table:
    """The monitored metrics; of several runs, with the differences to the first."""
    first, *others = (run.task for run in runs)
    differences = ["Difference"] if len(others) == 1 else [f"{other} - {first}" for other in others]
    rows = []
    values = {run.task: dict(run.monitored) for run in runs}
    for metric in MONITORED[runs[0].spec.problem]:
        found = [of_run.get(metric) for of_run in values.values()]
        known = [value for value in found if value is not None]
        if known:
            texts = ["" if value is None else f"{value:.{metric.digits}f}" for value in found]
            texts += [
                "" if value is None or found[0] is None else signed(value - found[0], metric.digits)
                for value in found[1:]
            ]
            numbers = [Cell(text, number=True) for text in texts]
            rows.append(Row([Cell(metric.name, below=metric.meaning), *numbers]))
    seed = runs[0].params.seed
    note = f"One run each, with the same seed ({seed}): part of the differences is chance."
    return Table(("", *values, *differences), rows, notes=[note] if len(runs) > 1 else [])


def _training_table(runs: Sequence[Run]) -> Table:
    facts = {run.task: _facts(run) for run in runs}
    names = dict.fromkeys(name for of_run in facts.values() for name in of_run)
    rows = [Row([Cell(name), *(Cell(of_run.get(name, "")) for of_run in facts.values())]) for name in names]
    return Table(("", *facts), rows, text_columns=1 + len(facts))


def _facts(run: Run) -> dict[str, str]:
    spec, params = run.spec, run.params
    facts = {"Training time": run.training_time}
    if run.steps:
        facts["Steps"] = f"{run.steps:,} of {spec.batch} {run.unit}"
    if run.val is not None and "epoch" in run.val:
        facts["Epochs"] = f"{run.val['epoch'].max():g} of {spec.epochs}"
    facts["Learning rate"] = f"{params.lr * spec.lr_scale:g} at its peak ({params.lr:g} × {spec.lr_scale:g})"
    if spec.init:
        facts["Began from"] = spec.init.weights
    if spec.problem == "single" and "COCO.AP" in run.metrics:
        facts["Average precision in annotated boxes"] = f"{run.metrics['COCO.AP']:.3f}"
    scales = ", ".join(f"{scale:g}" for scale in params.scales(run.task))
    augmented = ["mirror image"] if params.has_flip_test(run.task) else []
    augmented += [f"people at sizes {scales}"] if scales != "1" else []
    facts["Test-time augmentation"] = "; ".join(augmented) or "none"
    # Single-person validation people are evaluated together with the test people.
    among = ", who are among those evaluated" if spec.problem == "single" else ""
    weights = {"last": "of the last step", "best": f"best on {run.val_samples}{among}"}
    return facts | {"Weights evaluated": weights[params.evaluate.weights]}


def _val_charts(runs: Sequence[Run]) -> list[Chart]:
    """The monitored metrics over steps, the first of them also over time where it is known.

    Those on samples that were trained on are dashed.
    """
    metrics = [
        metric
        for metric in MONITORED[runs[0].spec.problem]
        if any(run.val is not None and metric.name in run.val for run in runs)
    ]
    charts = [_val_chart(runs, metric, "step") for metric in metrics]
    if metrics and all(run.val is not None and _minutes(run).notna().all() for run in runs):
        charts.append(_val_chart(runs, metrics[0], "minutes"))
    return charts


def _val_chart(runs: Sequence[Run], metric: Metric, x: str) -> Chart:
    lines = []
    for run in runs:
        if run.val is None:
            continue
        val = run.val.assign(minutes=_minutes(run))
        for name in (metric.name, TRAIN_PREFIX + metric.name):
            if name in val:
                label = run.task if name == metric.name else f"{run.task}, trained on"
                line = column_line(val, x, name, label, run.colour)
                lines.append(Line(label, line.x, line.y, run.colour, dashed=name != metric.name))
    top = min(1.1 * max((float(line.y.max()) for line in lines), default=0), metric.best)
    starts = [start_step(run.train) for run in runs if run.train is not None]
    mark = max(starts, default=0.0) if x == "step" else 0.0
    note = f"On {runs[0].val_samples}; dashed, on some trained on."
    note += " Adversarial training starts at the grey line." if mark else ""
    title = f"{metric.name} over {'steps' if x == 'step' else 'time'}"
    x_label = "step" if x == "step" else "minutes of training"
    limits = 0, top if top > 0 else metric.best
    tasks = " and ".join(run.task for run in runs)
    return line_chart(title, lines, tasks, x_label, note, y_limits=limits, mark=mark or None)


def _minutes(run: Run) -> pd.Series:
    """Of training until each row of `val`; NaN where unknown."""
    assert run.val is not None
    seconds = {} if run.train_time is None else run.train_time.set_index("step")["seconds"].to_dict()
    return run.val["step"].map(seconds) / 60


def _train_charts(runs: Sequence[Run]) -> list[Chart]:
    """The terms of the loss, and the learning rate."""
    trains = [(run, run.train) for run in runs if run.train is not None]
    terms = dict.fromkeys(str(name) for _, train in trains for name in train.columns)
    charts, tasks = [], " and ".join(run.task for run in runs)
    for term in terms:
        if term in ("step", *COLUMNS) or all(term == "loss" and _is_one_term(train) for _, train in trains):
            continue
        lines = [
            column_line(train, "step", term, run.task, run.colour) for run, train in trains if term in train
        ]
        if term == "lr":
            lr = line_chart("Learning rate", lines, tasks, "step")
            continue
        title = "Training loss" if term == "loss" else f"Training loss: {term}"
        smoothed = [part for line in lines for part in with_smoothed(line)]
        note, log = "Means over the steps since the row before.", needs_log_scale(lines)
        charts.append(line_chart(title, smoothed, tasks, "step", note, log=log))
    return charts + ([lr] if "lr" in terms else [])


def _is_one_term(train: pd.DataFrame) -> bool:
    """Whether the loss is a single term of weight 1."""
    terms = [name for name in train.columns if name not in ("step", "lr", "loss", *COLUMNS)]
    return len(terms) == 1 and "loss" in train and np.allclose(train[terms[0]], train["loss"])
