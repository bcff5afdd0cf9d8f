"""The history of a run, as files that others read and as a figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pose.engine import Progress
from pose.files import written_whole
from pose.folders import Folders


def write_history(folders: Folders, progress: Progress) -> None:
    """`train.csv` and `valid.csv` as `dvc plots` and the report read them, and the clock."""
    files = {folders.plots / "train.csv": progress.train, folders.plots / "valid.csv": progress.valid, folders.clock: progress.clock}
    for file, rows in files.items():
        with written_whole(file) as path:
            pd.DataFrame(rows).to_csv(path, index=False)


def history_figure(progress: Progress) -> Figure:
    """Loss and validation figures over steps, as MLflow keeps it."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    train_rows, valid_rows = pd.DataFrame(progress.train), pd.DataFrame(progress.valid)
    left.plot(train_rows["step"], train_rows["loss"])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for column in valid_rows.columns.drop(["step", "epoch"]):
        right.plot(valid_rows["step"], valid_rows[column], marker=".", label=column)
    right.set(xlabel="step", ylim=(0, None))
    right.legend()
    return figure
