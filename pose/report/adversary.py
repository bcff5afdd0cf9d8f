"""What the report shows of adversarial training, and which task is shown beside its plain one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pose.params import AdversaryParams, Params
from pose.report.charts import SERIES, column_line, line_chart, needs_log_scale, with_smoothed
from pose.report.content import Chart
from pose.report.run import Run, plain_task

# Of train.csv, empty before adversarial training starts (`start_fraction`).
COLUMNS = ("E_real", "E_fake", "k", "balance", "convergence")
LABELS = {"E_real": "E(real)", "E_fake": "E(fake)", "k": "k_t"}


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
            charts.append(line_chart(title, smoothed, task, "step", note, log=log, x_start=start_step(train)))
    return charts


def families(params: Params, runs: Mapping[str, Run]) -> list[list[Run]]:
    """Each task with an adversary after its plain one, where there are runs of both; other tasks alone."""
    found = {task: [run] for task, run in runs.items()}
    for task in runs:
        plain = plain_task(params, task)
        if plain in found and plain is not None:
            found[plain] += found.pop(task)
    return list(found.values())


def start_step(train: pd.DataFrame) -> float:
    """The last row's step before adversarial training; 0 if it started at once, or never."""
    first = int(train["E_real"].notna().to_numpy().argmax()) if "E_real" in train else 0
    return float(train["step"].iloc[first - 1]) if first else 0.0
