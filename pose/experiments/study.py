"""A study: a list of DVC experiments, run one after the other in this workspace, and the table of their figures beside the list."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pose.io.errors import UserError
from pose.io.files import atomic_write
from pose.io.paths import TaskPaths
from pose.io.schema import Frozen, parse, read_yaml
from pose.metrics.monitored import MONITORED, TRAIN_PREFIX, monitored
from pose.params import Params, load_params

LAST = 0.9  # the game's figures are means over what follows this share of the run


class Experiment(Frozen):
    """study: which question it answers.

    Task: what it trains. set: parameters that it changes, by dotted key.
    """

    study: Literal["game", "seeds"]
    task: str
    set: dict[str, float | int | str]

    @property
    def name(self) -> str:
        """Of the DVC experiment."""
        changed = [
            f"{key.rpartition('.')[2].replace('_', '-')}-{value}".replace(".", "_")
            for key, value in self.set.items()
        ]
        return "-".join(["study", self.task, *changed])


class Study(Frozen):
    """common: parameters that all experiments change."""

    common: dict[str, float | int | str]
    experiments: list[Experiment]


def run_study(source: Path) -> Path:
    """Run what the table beside the list lacks, one after the other, and return the table.

    UserError for a list that cannot be used, and for an experiment that fails; what is done stays in the
    table.
    """
    study = parse(Study, read_yaml(source), str(source))
    table = source.with_suffix(".csv")
    rows: list[dict[str, Any]] = pd.read_csv(table).to_dict("records") if table.exists() else []  # type: ignore[assignment]
    for number, experiment in enumerate(study.experiments, start=1):
        if experiment.name in {row["experiment"] for row in rows}:
            continue
        print(f"{number} of {len(study.experiments)}: {experiment.name}", flush=True)
        # `dvc exp run` leaves its parameters in the workspace, where the next experiment would begin from
        # them.
        subprocess.run(["git", "checkout", "--quiet", "HEAD", "--", "params.yaml"], check=True)
        changes = [f"--set-param={key}={value}" for key, value in (study.common | experiment.set).items()]
        ended = subprocess.run(
            ["dvc", "exp", "run", f"--name={experiment.name}", *changes, f"evaluate@{experiment.task}"]
        )
        if ended.returncode:
            raise UserError(
                f"{experiment.name}: dvc exp run ended with status {ended.returncode}; what is done stays in {table}"
            )
        rows.append(figures(experiment, load_params()))
        with atomic_write(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    return table


def figures(experiment: Experiment, params: Params) -> dict[str, Any]:
    """One row of the table, from what the experiment left in the workspace."""
    folders, spec = TaskPaths(experiment.task), params.task(experiment.task)
    scores = json.loads(folders.metrics.read_text(encoding="utf-8"))
    train, valid = (pd.read_csv(folders.plots / f"{name}.csv") for name in ("train", "val"))
    end = train[train["step"] > LAST * train["step"].max()]
    metric, game = MONITORED[spec.problem][0].name, spec.adversary
    return {
        "study": experiment.study,
        "experiment": experiment.name,
        "task": experiment.task,
        "seed": params.seed,
        "epochs": spec.epochs,
        "steps": int(train["step"].max()),
        "weight": game and game.weight,
        "start": game and game.start_fraction,
        "gamma": game and game.gamma,
        "balance_rate": game and game.balance_rate,
        "metric": metric,
        "value": monitored(spec.problem, scores)[metric],
        "train_value": float(valid[TRAIN_PREFIX + metric].iloc[-1]),
        **{
            name: round(float(end[name].mean()), 6) if name in end else None
            for name in ("E_real", "E_fake", "k")
        },
    }
