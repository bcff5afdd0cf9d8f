"""What the report shows of adversarial training: its course, and each such task beside its plain one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pose.metrics.monitored import MONITORED, TRAIN_PREFIX
from pose.params import AdversaryParams, Params
from pose.report.charts import SERIES, column_line, line_chart, needs_log_scale, with_smoothed
from pose.report.common import number_row, signed
from pose.report.content import Block, Chart, Row, Table
from pose.report.run import Run

# Of train.csv, empty before adversarial training starts (`start_fraction`).
COLUMNS = ("E_real", "E_fake", "k", "balance", "convergence")
LABELS = {"E_real": "E(real)", "E_fake": "E(fake)", "k": "k_t"}
PLAIN, ADVERSARIAL = SERIES[1], SERIES[0]


def adversary_charts(train: pd.DataFrame, params: AdversaryParams, task: str) -> list[Chart]:
    """Charts of the adversarial steps; none where train.csv has none."""
    balance, gamma = "gamma E(real) − E(fake)", f"gamma {params.gamma:g}"
    errors = (
        "Mean squared error of the adversary's reconstruction, of true heatmaps and of the pose network's."
    )
    descent = (
        "The adversary descends E(real) − k_t E(fake). After each step "
        f"k_t ← clip(k_t + balance_rate ({balance}), 0, 1); balance_rate {params.balance_rate:g}, {gamma}."
    )
    measure = (
        f"E(real) + |{balance}|; {gamma}. "
        "Small where true heatmaps are reconstructed well and the errors are in balance."
    )
    charts = []
    for title, columns, note in (
        ("Reconstruction errors", ("E_real", "E_fake"), errors),
        ("k_t", ("k",), descent),
        ("Balance", ("balance",), f"{balance}; {gamma}. Above 0, k_t rises; below 0, it falls."),
        ("Convergence measure", ("convergence",), measure),
    ):
        lines = [
            column_line(train, "step", column, LABELS.get(column, column), colour)
            for column, colour in zip(columns, (SERIES[2], SERIES[0]), strict=False)
            if column in train
        ]
        if lines:
            smoothed = [part for line in lines for part in with_smoothed(line)]
            log = "k" not in columns and needs_log_scale(lines)
            charts.append(line_chart(title, smoothed, task, "step", note, log=log, x_start=_start(train)))
    return charts


def comparisons(params: Params, runs: Mapping[str, Run]) -> list[Block]:
    """Each adversarial task beside its plain one, where there are runs of both."""
    blocks = []
    for task, run in runs.items():
        plain = plain_task(params, task)
        if plain is not None and plain in runs:
            blocks.append(_comparison(runs[plain], run))
    return blocks


def plain_task(params: Params, task: str) -> str | None:
    """The task that is equal to this one but for its adversary; None where there is none."""
    spec = params.task(task)
    if spec.adversary is None:
        return None
    plain = spec.model_copy(update={"adversary": None})
    return next((name for name, other in params.tasks.items() if other == plain), None)


def _comparison(plain: Run, other: Run) -> Block:
    trained_on = f"{other.unit} trained on, at most {other.params.train.train_samples:,}"
    charts = [
        _val_chart(plain, other, TRAIN_PREFIX, trained_on),
        _val_chart(plain, other, "", other.val_samples),
    ]
    values = {metric.name: value for metric, value in plain.monitored}
    rows = [
        _difference(metric.name, values[metric.name], value, metric.digits)
        for metric, value in other.monitored
        if metric.name in values
    ]
    if plain.seconds and other.seconds:
        rows.append(_difference("Minutes of training", plain.seconds / 60, other.seconds / 60, 1))
    notes = [f"One run each, with the same seed ({other.params.seed}): part of the differences is chance."]
    table = Table(("", plain.task, other.task, "Difference"), rows, notes=notes)
    title = f"{other.task} beside {plain.task}"
    return Block(title, charts=[chart for chart in charts if chart], table=table)


def _difference(what: str, plain: float, other: float, digits: int) -> Row:
    numbers = f"{plain:.{digits}f}", f"{other:.{digits}f}", signed(other - plain, digits)
    return number_row(what, numbers)


def _val_chart(plain: Run, other: Run, prefix: str, samples: str) -> Chart | None:
    """The first monitored metric that both val.csv have under this prefix, over steps."""
    if plain.val is None or other.val is None:
        return None
    both = {*plain.val} & {*other.val}
    metric = next((one for one in MONITORED[other.spec.problem] if prefix + one.name in both), None)
    if metric is None:
        return None
    lines = [
        column_line(val, "step", prefix + metric.name, run.task, colour)
        for run, val, colour in ((plain, plain.val, PLAIN), (other, other.val, ADVERSARIAL))
    ]
    top = min(1.1 * max(float(line.y.max()) for line in lines), metric.best)
    start = 0.0 if other.train is None else _start(other.train)
    title, tasks = f"{metric.name} on {samples}", f"{plain.task} and {other.task}"
    note = "Adversarial training starts at the dashed line." if start else ""
    limits = 0, top if top > 0 else metric.best
    return line_chart(title, lines, tasks, "step", note, y_limits=limits, mark=start or None)


def _start(train: pd.DataFrame) -> float:
    """The last row's step before adversarial training; 0 if it started at once, or never."""
    first = int(train["E_real"].notna().to_numpy().argmax()) if "E_real" in train else 0
    return float(train["step"].iloc[first - 1]) if first else 0.0
