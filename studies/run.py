"""Run the experiments that a study lists, each as a DVC experiment, and write their metrics beside the list.

    python studies/run.py studies/adversary.yaml

Best in a clone of its own: an experiment leaves its metrics in the workspace (`git checkout .` restores
them). What the table has already is not run again, so an interrupted study is resumed by the same command.
Every experiment begins from the committed params.yaml.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pose.io.command import run_stage
from pose.io.errors import UserError
from pose.io.files import atomic_write, read_json
from pose.io.paths import TaskPaths
from pose.io.schema import Frozen, flatten, parse, read_yaml
from pose.metrics.monitored import MONITORED, TRAIN_PREFIX, monitored_in
from pose.params import Params, load_params

LAST = 0.9  # the adversary's columns are means over what follows this share of the run


class Experiment(Frozen):
    """study: which question it answers. task: what it trains. set: the parameters that it changes."""

    study: Literal["settings", "seeds"]
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
    """Run what the table beside the list lacks, one after the other; returns the table.

    UserError for a list that cannot be used, and for an experiment that fails; the table keeps what is done.
    """
    study = parse(Study, read_yaml(source), str(source))
    table = source.with_suffix(".csv")
    rows: list[Any] = pd.read_csv(table).to_dict("records") if table.exists() else []
    for number, experiment in enumerate(study.experiments, start=1):
        if experiment.name in {row["experiment"] for row in rows}:
            continue
        print(f"{number} of {len(study.experiments)}: {experiment.name}", flush=True)
        # `dvc exp run` leaves its parameters in the workspace, and the next experiment would begin from them.
        subprocess.run(["git", "checkout", "--quiet", "HEAD", "--", "params.yaml"], check=True)
        changes = [f"--set-param={key}={value}" for key, value in (study.common | experiment.set).items()]
        command = ["dvc", "exp", "run", f"--name={experiment.name}", *changes, f"evaluate@{experiment.task}"]
        if status := subprocess.run(command).returncode:
            failed = f"{experiment.name}: dvc exp run ended with status {status}"
            raise UserError(f"{failed}; what is done stays in {table}")
        rows.append(result_row(experiment, load_params()))
        with atomic_write(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    return table


def result_row(experiment: Experiment, params: Params) -> dict[str, Any]:
    """One row of the table, from what the experiment left in the workspace."""
    paths, spec = TaskPaths(experiment.task), params.task(experiment.task)
    metric = MONITORED[spec.problem][0]
    scores = monitored_in(spec.problem, flatten(read_json(paths.metrics)))
    train, val = (pd.read_csv(paths.plots / f"{name}.csv") for name in ("train", "val"))
    end = train[train["step"] > LAST * train["step"].max()]
    adversary = spec.adversary
    return {
        "study": experiment.study,
        "experiment": experiment.name,
        "task": experiment.task,
        "optimizer": spec.optimizer.name,
        "seed": params.seed,
        "epochs": spec.epochs,
        "steps": int(train["step"].max()),
        "weight": adversary and adversary.weight,
        "start": adversary and adversary.start_fraction,
        "gamma": adversary and adversary.gamma,
        "balance_rate": adversary and adversary.balance_rate,
        "metric": metric.name,
        "value": scores.get(metric.name, metric.default),
        "train_value": float(val[TRAIN_PREFIX + metric.name].iloc[-1]),
        **{
            name: round(float(end[name].mean()), 6) if name in end else None
            for name in ("E_real", "E_fake", "k")
        },
    }


def main(path: str) -> None:
    """Run the experiments of a list that its table lacks."""
    print(run_study(Path(path)))


if __name__ == "__main__":
    run_stage(main)
