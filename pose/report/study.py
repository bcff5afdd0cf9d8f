"""The study of the adversary: its runs as tables, and what they differ by from runs without an adversary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pose.io.errors import reading
from pose.metrics.monitored import MONITORED
from pose.report.common import number_cell, signed
from pose.report.content import Block, Cell, Row, Table
from pose.report.files import read_table

STUDY = Path("studies/adversary.csv")
NEEDED = ("seed", "epochs", "value")  # numbers of every row
MEASURES = {"train_value": "trained on", "E_real": "E(real)", "E_fake": "E(fake)", "k": "k_t"}
# All other columns are parameters of the adversary, empty for tasks without one.
KNOWN = {"study", "experiment", "task", "optimizer", "steps", "metric", *NEEDED, *MEASURES}
DIGITS = {metric.name: metric.digits for metrics in MONITORED.values() for metric in metrics}
SAME = ["task", "optimizer", "epochs"]  # of runs that are seeds of one recipe, with their settings
MIN_SEEDS = 3  # from which on an interval is given
CONFIDENCE = 0.95


def study_blocks(path: Path) -> list[Block]:
    """A table for each study and metric; none without the file. UserError if it cannot be used."""
    if not path.is_file():
        return []
    with reading(path, "the table of a study"):
        return _blocks(read_table(path, "study", "task", "optimizer", "metric", *NEEDED, *MEASURES))


def _blocks(runs: pd.DataFrame) -> list[Block]:
    settings = [str(column) for column in runs.columns if column not in KNOWN]
    runs["setting"] = [tuple(map(_text, row)) for row in runs[settings].to_numpy(dtype=object)]
    runs["plain"] = runs[settings].isna().all(axis="columns")
    blocks: list[Block] = []
    note = (
        "Trained on: the same metric on training samples. E(real), E(fake), k_t: over a run's last tenth. "
        "Faint rows: no adversary. Marked rows: mean difference from the runs without, seed by seed, "
        f"and its {CONFIDENCE:.0%} interval (Student's t)."
    )
    for (study, metric), some in runs.groupby(["study", "metric"], sort=False):
        rows = [_row(run, settings) for _, run in some.iterrows()]
        for _, same in some[~some["plain"]].groupby([*SAME, "setting"], sort=False):
            rows += _difference(same, runs[runs["plain"] & (runs["metric"] == metric)])
        columns = ("Task", "Optimizer", "Seed", "Epochs", *settings, str(metric), *MEASURES.values())
        table = Table(columns, rows, notes=[] if blocks else [note])
        blocks.append(Block(f"Study: {study}, {metric}", table=table, folded=True))
    return blocks


def _row(run: pd.Series, settings: list[str]) -> Row:
    accuracy = f".{DIGITS[run['metric']]}f"
    forms = {"value": accuracy, "train_value": accuracy, "E_real": ".2e", "E_fake": ".2e", "k": ".3f"}
    cells = [
        Cell(run["task"]),
        Cell(run["optimizer"]),
        number_cell(run["seed"], ".0f"),
        number_cell(run["epochs"], "g"),
    ]
    cells += [Cell(_text(run[name]), number=True) for name in settings]
    cells += [number_cell(run[name], form) for name, form in forms.items()]
    return Row(cells, faint=bool(run["plain"]))


def _difference(same: pd.DataFrame, plain: pd.DataFrame) -> list[Row]:
    """Runs of one setting less those without an adversary of equal seeds and length, if there are enough."""
    task, optimizer, epochs, setting, metric = same[[*SAME, "setting", "metric"]].iloc[0]
    alike = (plain["epochs"] == epochs) & (plain["optimizer"] == optimizer)
    plain = plain[alike].drop_duplicates("seed")
    pairs = same.drop_duplicates("seed").merge(plain, on="seed", suffixes=("", "_plain"))
    if len(pairs) < MIN_SEEDS or plain["task"].nunique() != 1:
        return []
    change_S = (pairs["value"] - pairs["value_plain"]).to_numpy()
    mean, deviation = float(change_S.mean()), float(change_S.std(ddof=1))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)) * deviation / len(pairs) ** 0.5
    change, low, high = (signed(value, DIGITS[metric]) for value in (mean, mean - half, mean + half))
    trained = float((pairs["train_value"] - pairs["train_value_plain"]).mean())
    texts = [f"{len(pairs)} seeds", f"{epochs:g}", *setting]
    cells = [Cell(f"{task} − {plain['task'].iloc[0]}"), Cell(optimizer)]
    cells += [Cell(text, number=True) for text in texts]
    cells.append(Cell(change, number=True, below=f"{low} to {high}"))
    cells.append(Cell("" if np.isnan(trained) else signed(trained, DIGITS[metric]), number=True))
    return [Row([*cells, *[Cell("", number=True)] * (len(MEASURES) - 1)], marked=True)]


def _text(value: object) -> str:
    """Of a parameter; empty where there is none."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
