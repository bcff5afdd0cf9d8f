"""The section of one task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose.metrics.monitored import MONITORED
from pose.report import multi, single
from pose.report.adversary import COLUMNS, adversary_charts
from pose.report.charts import INK, SERIES, column_line, line_chart, needs_log_scale, with_smoothed
from pose.report.common import ProblemReport, error_table
from pose.report.content import Block, Chart, Section, Tile
from pose.report.files import try_read
from pose.report.run import Run
from pose.tasks.base import ProblemData

PROBLEMS: dict[str, ProblemReport] = {"single": single.REPORT, "multi": multi.REPORT}


def task_section(run: Run, data: ProblemData | None, missing: Sequence[str]) -> Section:
    """From whichever files there are. data, missing: the prepared set, or why it cannot be used."""
    report, spec, plots = PROBLEMS[run.spec.problem], run.spec, run.paths.plots
    missing = [*run.missing, *missing]
    skeleton = None if data is None else data.skeleton
    curve = try_read(missing, lambda: report.curve(plots / report.curve_file, run))
    joints = try_read(missing, lambda: report.joints(plots / "joints.csv", skeleton))
    path = run.paths.predictions(report.suffix)
    found = try_read(missing, lambda: report.read_predictions(path, len(skeleton) if skeleton else None))
    blocks = [report.comparison(run, data)]
    blocks.append(Block("Curves", charts=([curve] if curve else []) + _val_charts(run) + _train_charts(run)))
    if spec.adversary and run.train is not None:
        charts = adversary_charts(run.train, spec.adversary, run.task)
        blocks.append(Block("Adversarial training", "Smoothed, from its first step on.", charts=charts))
        if not charts:
            missing.append(f"{plots / 'train.csv'}: no columns {', '.join(COLUMNS)}: no adversarial step yet")
    blocks.append(Block("Joint by joint", table=joints))
    if joints:
        errors = try_read(missing, lambda: error_table(plots / "joints.csv", skeleton))
        blocks.append(Block("Kinds of error", table=errors))
    if data is not None and found is not None:
        blocks += try_read(missing, lambda: report.images(run, data, found)) or []
    return Section(
        run.anchor,
        run.task,
        [block for block in blocks if block.charts or block.table or block.images],
        summary=f"{report.sample}; {spec.network}" + ("; adversarial training" if spec.adversary else ""),
        missing=missing,
        tiles=[Tile(one.name, f"{value:.{one.digits}f}", one.meaning) for one, value in run.monitored],
        facts=_facts(run),
    )


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
    # Single-person validation people are evaluated together with the test people.
    among = ", who are among those evaluated" if spec.problem == "single" else ""
    weights = {"last": "of the last step", "best": f"best on {run.val_samples}{among}"}
    return facts | {"Weights evaluated": weights[params.evaluate.weights]}


def _val_charts(run: Run) -> list[Chart]:
    """The monitored metrics over steps, and over time where it is known."""
    if run.val is None:
        return []
    metrics = [metric for metric in MONITORED[run.spec.problem] if metric.name in run.val]
    seconds = {} if run.train_time is None else run.train_time.set_index("step")["seconds"].to_dict()
    val = run.val.assign(minutes=run.val["step"].map(seconds) / 60)
    charts = []
    for title, x, x_label in (
        ("Validation over steps", "step", "step"),
        ("Validation over time", "minutes", "minutes of training"),
    ):
        lines = [
            column_line(val, x, metric.name, metric.name, colour)
            for metric, colour in zip(metrics, SERIES, strict=False)
        ]
        if lines and val[x].notna().all():
            names, limits = ", ".join(line.label for line in lines), (0, metrics[0].best)
            note = f"{names}, on {run.val_samples}."
            charts.append(line_chart(title, lines, run.task, x_label, note, y_limits=limits))
    return charts


def _train_charts(run: Run) -> list[Chart]:
    """The terms of the loss, and the learning rate."""
    train = run.train
    if train is None:
        return []
    terms = [str(column) for column in train.columns if column not in ("step", "lr", *COLUMNS)]
    if len(terms) == 2 and "loss" in terms and np.allclose(train[terms[0]], train[terms[1]]):
        terms.remove("loss")  # one term of weight 1 is the loss
    charts = []
    for term in terms:
        line = column_line(train, "step", term, term, SERIES[1])
        title = "Training loss" if term == "loss" else f"Training loss: {term}"
        note, log = "Means over the steps since the row before.", needs_log_scale([line])
        charts.append(line_chart(title, with_smoothed(line), run.task, "step", note, log=log))
    if "lr" in train:
        line = column_line(train, "step", "lr", "lr", INK)
        charts.append(line_chart("Learning rate", [line], run.task, "step"))
    return charts
