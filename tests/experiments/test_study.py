"""Studies: what may be listed, what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

from pose.experiments.study import Experiment, Study, figures, run_study
from pose.io.errors import UserError
from pose.params import Params, load_params, parse, read_yaml


def test_the_committed_study_names_tasks_and_parameters_that_there_are_and_no_experiment_twice():
    study = parse(Study, read_yaml(ROOT / "studies/adversary.yaml"), "studies/adversary.yaml")
    values = read_yaml(ROOT / "params.yaml")
    for experiment in study.experiments:
        assert experiment.task in values["tasks"]
        for key in study.common | experiment.set:
            inner = values
            for part in key.split("."):
                inner = inner[part]
    names = [experiment.name for experiment in study.experiments]
    assert len(set(names)) == len(names)


def test_every_row_of_the_committed_table_is_of_an_experiment_in_the_list_and_has_its_settings():
    study = parse(Study, read_yaml(ROOT / "studies/adversary.yaml"), "studies/adversary.yaml")
    params, listed = (
        load_params(ROOT / "params.yaml"),
        {experiment.name: experiment for experiment in study.experiments},
    )
    for row in pd.read_csv(ROOT / "studies/adversary.csv").to_dict("records"):
        experiment, game = listed[row["experiment"]], params.task(row["task"]).adversary
        wanted = {"seed": params.seed} | (
            game.model_dump(include={"weight", "start", "gamma", "balance_rate"}) if game else {}
        )
        wanted |= {key.rpartition(".")[2]: value for key, value in experiment.set.items()}
        assert {key: row[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: []", "missing key common"),
        ("common: {}\nexperiments:\n  - {study: game, task: advpose}", r"missing key experiments\.0\.set"),
        (
            "common: {}\nexperiments:\n  - {study: dance, task: advpose, set: {}}",
            r"experiments\.0\.study: found 'dance'",
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        run_study(tmp_path / "study.yaml")
    assert "\n" not in str(error.value)


def test_a_row_holds_the_final_figure_and_the_game_at_the_end_of_the_run(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    plots = Path("metrics/plots/advpose")
    plots.mkdir(parents=True)
    Path("metrics/advpose.json").write_text(json.dumps({"PCKh": {"0.5": 61.5}}))
    steps = pd.Series(range(1, 101))
    pd.DataFrame({"step": steps, "E_real": 1.0 * steps, "E_fake": 2.0, "k": (steps > 90) / 4}).to_csv(
        plots / "train.csv", index=False
    )
    pd.DataFrame({"step": [50, 100], "train PCKh@0.5": [40.0, 63.0]}).to_csv(plots / "val.csv", index=False)
    row = figures(Experiment(study="game", task="advpose", set={}), params)
    assert (row["value"], row["train_value"], row["steps"]) == (61.5, 63.0, 100)
    assert (row["E_real"], row["E_fake"], row["k"]) == (95.5, 2.0, 0.25)
