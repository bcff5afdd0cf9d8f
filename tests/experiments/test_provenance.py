"""Back from metrics, weights and runs to what made them: `pose show`. Real weights, repositories, stores."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import (
    ROOT,
    commit_all,
    empty_store,
    enter_folder,
    files_of,
    git,
    run_python,
    user_error,
    with_values,
    without_packages,
    write_initial_weights,
    write_params_file,
)

from pose.cli import run
from pose.experiments.provenance import ENVIRONMENT_KEYS, Fact, as_json, as_text, provenance
from pose.io.files import file_hash, write_json
from pose.models.weights import load_weights, save_weights
from pose.params import Params, load_params
from pose.tracking.base import RunInfo
from pose.tracking.mlflow import MlflowTracker, log_evaluation

SCORES = {
    "PCKh": {"0.5": 68.302, "0.1": 14.398, "AUC": 39.937, "Head": 90.0},
    "PCK": {"0.2": 63.289},
    "people": {"all": 738},
}
MONITORED = {"PCKh@0.5": 68.302, "PCK@0.2": 63.289, "PCKh@0.1": 14.398, "AUC": 39.937}
PARAMETERS = {"lr": 0.00025, "seed": 1, "task.adversary": None, "task.network.stem": [16, 32, 32]}
ENVIRONMENT = {
    **{"data": "d41d8cd98f00b204e9800998ecf8427e", "code": "0123456789ab", "torch": "2.9.0+cpu"},
    **{"device": "cpu AVX512", "processes": 2, "epochs": 1, "steps": 40, "source": "data/synthetic"},
}
TRAINED = PARAMETERS | ENVIRONMENT


@pytest.fixture(scope="session")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a task that was trained and evaluated, and a store with its run."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        enter_folder(folder, patch)
        shutil.copy(empty_store(), "mlflow.db")
        Path(".gitignore").write_text("models/\ncheckpoints/\nmlflow.db*\nmlruns/\n")
        commit_all("code")
        weights = load_weights(write_initial_weights(params, "hgpose", folder))
        Path("last.pt").unlink()
        save_weights("models/hgpose/last.pt", replace(weights, provenance=TRAINED))
        save_weights("models/hgpose/best.pt", replace(weights, provenance=TRAINED, mean=(0.5, 0.5, 0.5)))
        save_weights("models/imported/hgpose.pt", weights)
        write_json("metrics/hgpose.json", SCORES)
        best = Path("models/hgpose/best.pt")
        evaluated = {"task": "hgpose", "weights": file_hash(best), "file": str(best), "trained": TRAINED}
        write_json("metrics/provenance/hgpose.json", evaluated)
        track("hgpose")
    return folder


def track(task: str) -> str:
    """A run with the parameters above, the hashes of its weights and the scores."""
    tags = {key: str(ENVIRONMENT[key]) for key in ("code", "torch", "device")}
    tags |= {"data_hash": str(ENVIRONMENT["data"])}
    tracker = MlflowTracker()
    tracker.start(RunInfo(task, PARAMETERS | {"processes": 2}, tags, False, [], Path("checkpoints", task)))
    for step in (20, 40):
        tracker.log({"step": step, "loss": 1 / step})
    for which in ("last", "best"):
        tracker.set_tags({f"weights_{which}": file_hash(f"models/{task}/{which}.pt")})
    tracker.finish("FINISHED")
    log_evaluation(SCORES, weights=file_hash(f"models/{task}/last.pt"))
    return str(tracker.run_id)


@pytest.fixture
def workspace(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, made the working folder."""
    folder = Path(shutil.copytree(project, tmp_path / "work space#1"))
    enter_folder(folder, monkeypatch)
    return folder


def facts(what: str) -> dict[str, Fact]:
    return {fact.name: fact for fact in provenance(what)}


def values(what: str) -> dict[str, object]:
    return {name: fact.value for name, fact in facts(what).items()}


def head() -> str:
    return git("rev-parse", "HEAD")


def own_run(task: str = "hgpose") -> str:
    return Path("checkpoints", task, "run_id").read_text()


def test_a_metrics_file_is_led_back_to_revision_parameters_data_torch_and_device(workspace):
    before = files_of(workspace)
    names = ("metrics/hgpose.json", "metrics/provenance/hgpose.json", "hgpose")
    for what in (*names, str(workspace / "metrics/hgpose.json")):
        found = values(what)
        assert found.pop("parameters") == PARAMETERS
        assert ENVIRONMENT.items() <= found.items()
        assert found["metrics"] == MONITORED
        assert found["revision"] == {"commit": head(), "changed": False}
        run = {"id": own_run(), "name": "hgpose", "status": "FINISHED", "equal": []}
        assert found["run"].items() >= run.items()
        file = "models/hgpose/best.pt"
        assert found["weights"] == {"md5": file_hash(file), "file": file, "there": True}
    assert files_of(workspace) == before


def test_weights_that_changed_since_the_evaluation_are_named(workspace):
    Path("models/hgpose/best.pt").write_bytes(Path("models/hgpose/last.pt").read_bytes())
    assert facts("hgpose")["weights"].text.endswith(" models/hgpose/best.pt, which is another now")
    Path("models/hgpose/best.pt").unlink()
    assert facts("hgpose")["weights"].text.endswith(", which is gone")
    Path("metrics/hgpose.json").unlink()  # a task without metrics is its last weights
    assert facts("hgpose")["weights"].text.endswith(" models/hgpose/last.pt")


@pytest.mark.parametrize("which", ["last", "best"])
def test_weights_are_led_back_and_have_metrics_if_they_are_what_was_evaluated(which, workspace):
    found = facts(f"models/hgpose/{which}.pt")
    assert found["parameters"].value == PARAMETERS
    assert {name: found[name].value for name in ENVIRONMENT_KEYS} == ENVIRONMENT
    assert found["revision"].value == {"commit": head(), "changed": False}
    assert found["run"].value["id"] == own_run()
    of_others = "unknown: those of metrics/hgpose.json are of other weights"
    assert found["metrics"].text.startswith("PCKh@0.5 68.302, " if which == "best" else of_others)


def test_parameters_that_were_edited_since_the_training_are_named(workspace):
    write_params_file(workspace, with_values(load_params(ROOT / "params.yaml"), {"seed": 2}).model_dump())
    for what in ("hgpose", "models/hgpose/best.pt"):
        found = facts(what)["params.yaml"]
        assert found.text.startswith("seed was 1, is 2, lr was 0.00025, is 0.02")
        assert set(found.value) == {"seed", "lr", "task.network.stem", "epochs"}
    Path("params.yaml").write_text("lr: [")
    assert facts("hgpose")["params.yaml"].text.startswith("unknown: params.yaml: ")


def test_imported_weights_know_nothing_of_their_training(workspace):
    found = facts("models/imported/hgpose.pt")
    for name in (*ENVIRONMENT_KEYS, "parameters"):
        assert found[name].text == "unknown: the weights do not say: they were imported, or trained elsewhere"
    assert found["run"].text == "unknown: no run with these weights in the MLflow store"
    assert "parameters  unknown: the weights do not say" in as_text(list(found.values()))


def test_the_weights_that_a_training_began_from_are_led_back_one_step_further(workspace):
    given, tuned = Path("models/hgpose/last.pt"), Path("models/tuned/last.pt")
    init = {"init": file_hash(given), "task.init.weights": str(given)}
    save_weights(tuned, replace(load_weights(given), task="tuned", provenance=TRAINED | init))
    found = facts(str(tuned))
    assert found["init"].value == {"md5": file_hash(given), "file": str(given), "there": True}
    assert found["init run"].value["id"] == own_run()
    assert found["init revision"].value == {"commit": head(), "changed": False}
    assert {key: found[f"init {key}"].value for key in ("data", "code", "steps")} == {
        key: TRAINED[key] for key in ("data", "code", "steps")
    }
    assert found["parameters"].value == PARAMETERS | {"task.init.weights": str(given)}
    given.write_bytes(Path("models/imported/hgpose.pt").read_bytes())
    found = facts(str(tuned))
    assert found["init"].text.endswith(" models/hgpose/last.pt, which is another now")
    assert found["init run"].value["id"] == own_run(), "the store still knows them"
    assert found["init data"].text == "unknown: these weights are not there"


def test_a_run_in_a_changed_repository_or_an_experiment_says_so(workspace, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "trial")
    Path(".gitignore").write_text("# changed\n" + Path(".gitignore").read_text())
    track("hgpose")
    found = facts("hgpose")
    assert found["revision"].text == f"{head()} + changes"
    assert found["experiment"].value == "trial"
    assert found["run"].text.startswith(f"{own_run()} hgpose trial (finished, begun 2")


def test_of_several_runs_with_the_same_weights_the_newest_comes_first(workspace):
    first, second, third = own_run(), track("hgpose"), track("hgpose")
    assert f"; of the same weights: {second}, {first})" in facts("hgpose")["run"].text
    assert values("hgpose")["run"].items() >= {"id": third, "equal": [second, first]}.items()


def test_metrics_without_provenance_are_still_shown(workspace):
    shutil.rmtree("metrics/provenance")
    found = facts("metrics/hgpose.json")
    assert (found["task"].value, found["metrics"].value) == ("hgpose", MONITORED)
    for name in ("weights", "revision", "run", *ENVIRONMENT_KEYS, "parameters"):
        assert found[name].text == "unknown: no metrics/provenance/hgpose.json, which evaluate@hgpose writes"


def test_without_a_store_the_rest_is_shown_and_none_is_made(workspace, monkeypatch):
    Path("mlflow.db").unlink()
    before = files_of(workspace)
    own = f"sqlite:///{workspace}/mlflow.db"
    for address in ("", f"sqlite:///{workspace}/other/mlflow.db", f"file://{workspace}/folder"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        found = facts("hgpose")
        assert found["run"].text == found["revision"].text == f"unknown: there is no store {address or own}"
        assert found["parameters"].value == PARAMETERS
    assert files_of(workspace) == before


@pytest.mark.parametrize("damaged", [b"", b"not a database" * 100, b"SQLite format 3\0" + bytes(2000)])
def test_a_store_that_cannot_be_read_is_named_and_left_as_it_is(damaged, workspace):
    Path("mlflow.db").write_bytes(damaged)
    found = facts("hgpose")
    assert found["run"].text.startswith(f"unknown: sqlite:///{workspace}/mlflow.db cannot be read (")
    assert found["parameters"].value == PARAMETERS
    assert Path("mlflow.db").read_bytes() == damaged


def test_a_server_that_is_away_is_named_without_its_password(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    line = facts("hgpose")["run"].text
    assert line.startswith("unknown: http://127.0.0.1:9 cannot be read (")
    assert "secret" not in line


def test_where_mlflow_is_not_installed_files_are_still_shown(workspace):
    code = """
from pose.cli import main
for what in ("metrics/hgpose.json", "models/hgpose/best.pt"):
    sys.argv[1:] = ["show", what]
    main()
"""
    shown = run_python(without_packages("mlflow", "dvc") + code)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    for line in ("run unknown: mlflow is not installed", "steps 40", "lr 0.00025"):
        assert lines.count(line) == 2, line


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("metrics/none.json", "metrics/none.json: no such file or task, expected metrics/TASK.json, models/"),
        ("models/hgpose", "models/hgpose: is a folder, expected metrics/TASK.json"),
        ("none.pt", "none.pt: no such file or task, expected"),
        ("", ": no such file or task, expected"),
        ("metrics/other.json", "metrics/other.json: found hgpose, advpose, expected the metrics"),
        ("notes.txt", "notes.txt: cannot be read as model weights"),
        ("cut.json", "cut.json: cannot be read as JSON"),
    ],
)
def test_what_cannot_be_led_back_is_one_line(what, message, workspace):
    write_json("metrics/other.json", {"hgpose": {"PCKh@0.5": 68.3}, "advpose": {"PCKh@0.5": 68.0}})
    Path("notes.txt").write_text("not weights")
    Path("cut.json").write_bytes(Path("metrics/hgpose.json").read_bytes()[:40])
    with user_error(f"^{message}"):
        run(["show", what])


def test_lines_are_aligned_and_machines_get_values(workspace, capsys):
    run(["show", "metrics/hgpose.json"])
    lines, parameters = capsys.readouterr().out.rstrip("\n").split("\n\n")
    names = ["task", "metrics", "weights", "revision", "run", *ENVIRONMENT_KEYS]
    assert [line.split()[0] for line in lines.splitlines()] == names
    assert {line[:11].rstrip() for line in lines.splitlines()} == set(names)
    assert "task.network.stem  [16, 32, 32]" in parameters.splitlines()
    assert "lr                 0.00025" in parameters.splitlines()
    run(["show", "metrics/hgpose.json", "--json"])
    assert json.loads(capsys.readouterr().out) == values("hgpose") | {"unknown": {}}
    unknown = [Fact("device", None, "unknown: nobody knows"), Fact("parameters", {"lr": 1}, "")]
    expected = {"device": None, "parameters": {"lr": 1}, "unknown": {"device": "nobody knows"}}
    assert json.loads(as_json(unknown)) == expected


@pytest.mark.parametrize("folder", ["metrics", "metrics/provenance"])
def test_a_file_of_the_folder_one_is_in_is_led_back_to_the_same(workspace, folder, monkeypatch):
    expected = values("metrics/hgpose.json")
    monkeypatch.chdir(folder)
    found = values("hgpose.json")
    assert found["weights"]["there"]
    assert found["parameters"] == expected["parameters"]


@pytest.mark.slow
def test_metrics_and_weights_of_a_real_training_say_the_same(trained, prepared, monkeypatch):
    enter_folder(trained, monkeypatch)
    by_metrics = values("metrics/advpose.json")
    by_weights = values(by_metrics["weights"]["file"])
    assert by_metrics["weights"]["there"]
    assert by_metrics["data"] == file_hash(prepared)
    assert by_metrics["metrics"] == by_weights["metrics"]
    for name in ("task", "run", *ENVIRONMENT_KEYS):
        assert by_metrics[name] == by_weights[name] is not None, name
    assert by_metrics["parameters"] == by_weights["parameters"]
