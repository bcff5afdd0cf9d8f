"""Studies: what may be listed, what becomes of it."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from helpers import ROOT, user_error

from pose.io.schema import flatten, parse, read_yaml
from pose.params import load_params

LIST = ROOT / "studies/adversary.yaml"


def script(path: str) -> ModuleType:
    """A script of the project, imported."""
    name = path.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def studies() -> ModuleType:
    """The script `studies/run.py`."""
    return script("studies/run.py")


def test_the_committed_list_names_tasks_and_parameters_that_there_are_and_no_experiment_twice(studies):
    study = parse(studies.Study, read_yaml(LIST), str(LIST))
    params = load_params(ROOT / "params.yaml")
    for experiment in study.experiments:
        assert study.common.keys() | experiment.set.keys() <= flatten(params.model_dump()).keys()
        params.task(experiment.task)
    names = [experiment.name for experiment in study.experiments]
    assert len(set(names)) == len(names)


def test_every_row_of_the_committed_table_is_of_an_experiment_in_the_list_and_has_its_settings(studies):
    study = parse(studies.Study, read_yaml(LIST), str(LIST))
    listed = {experiment.name: experiment for experiment in study.experiments}
    params = load_params(ROOT / "params.yaml")
    for row in pd.read_csv(LIST.with_suffix(".csv")).to_dict("records"):
        experiment, adversary = listed[row["experiment"]], params.task(row["task"]).adversary
        changed = {"seed": params.seed} | study.common | experiment.set
        own = f"tasks.{row['task']}.adversary."
        settings = adversary.model_dump() if adversary else {}
        settings |= {
            key.removeprefix(own): one for key, one in changed.items() if key == "seed" or key.startswith(own)
        }
        settings["start"] = settings.get("start_fraction")
        columns = ("seed", *(("weight", "start", "gamma", "balance_rate") if adversary else ()))
        assert {name: row[name] for name in columns} == {name: settings[name] for name in columns}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: []", "missing key common"),
        ("common: {}\nexperiments: [{study: settings, task: advpose}]", r"missing key experiments\.0\.set"),
        (
            "common: {}\nexperiments:\n  - {study: dance, task: advpose, set: {}}",
            r"experiments\.0\.study: found 'dance'",
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(studies, tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with user_error(message):
        studies.run_study(tmp_path / "study.yaml")


def test_a_row_holds_the_final_metric_and_the_adversary_at_the_end_of_the_run(
    studies, params, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    plots = Path("metrics/plots/advpose")
    plots.mkdir(parents=True)
    Path("metrics/advpose.json").write_text(json.dumps({"PCKh": {"0.5": 61.5}}))
    steps = pd.Series(range(1, 101))
    train = {"step": steps, "E_real": 1.0 * steps, "E_fake": 2.0, "k": (steps > 90) / 4}
    pd.DataFrame(train).to_csv(plots / "train.csv", index=False)
    pd.DataFrame({"step": [50, 100], "train PCKh@0.5": [40.0, 63.0]}).to_csv(plots / "val.csv", index=False)
    row = studies.result_row(studies.Experiment(study="settings", task="advpose", set={}), params)
    assert (row["metric"], row["value"], row["train_value"], row["steps"]) == ("PCKh@0.5", 61.5, 63.0, 100)
    assert (row["E_real"], row["E_fake"], row["k"]) == (95.5, 2.0, 0.25)


def test_the_example_of_a_sweep_maximises_the_metric_and_ends_hopeless_trials(params, prepared):
    optuna = pytest.importorskip("optuna", reason="needs Optuna, which is no dependency: pip install optuna")
    example = script("examples/optuna_sweep.py")
    hopeless = optuna.pruners.ThresholdPruner(lower=101.0)  # percent: whatever the first validation finds
    states = []
    for pruner in (None, hopeless):
        study = optuna.create_study(direction="maximize", pruner=pruner)
        study.optimize(lambda trial: example.objective(trial, params, prepared), n_trials=1)
        states.append(study.trials[0].state.name)
    assert states == ["COMPLETE", "PRUNED"]
