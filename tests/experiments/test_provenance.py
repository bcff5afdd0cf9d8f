"""Back from figures, weights and runs to what made them.

`pose show`. Real weights, git repositories and MLflow stores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT, make_workspace, run_stage, write_initial_weights

from pose.cli import run
from pose.experiments.provenance import Fact, as_json, as_text, provenance
from pose.io.errors import UserError
from pose.io.files import file_hash, write_json
from pose.models.weights import load_weights, save_weights
from pose.params import Params
from pose.tracking.mlflow import Tracker, log_evaluation

FIGURES = {
    "PCKh": {"0.5": 68.302, "0.1": 14.398, "AUC": 39.937, "Head": 90.0},
    "PCK": {"0.2": 63.289},
    "people": {"all": 738},
}
PARAMETERS = {
    "lr": 0.00025,
    "seed": 1,
    "task.adversary": None,
    "task.network.stem": [16, 32, 32],
    "task.optimizer.name": "rmsprop",
}
CIRCUMSTANCES = {
    **{
        "data": "d41d8cd98f00b204e9800998ecf8427e",
        "code": "0123456789ab",
        "torch": "2.9.0+cpu",
        "device": "cpu AVX512",
    },
    **{"processes": 2, "steps": 40},
}
TRAINED = PARAMETERS | CIRCUMSTANCES
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]


@pytest.fixture(scope="session")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a task that was trained, evaluated and committed, and a store with its run and two others. Tests take copies."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        alone(patch)
        Path(".gitignore").write_text("models/\ncheckpoints/\nmlflow.db*\nmlruns/\n")
        commit("code", first=True)
        weights = load_weights(write_initial_weights(params, "hgpose", folder))
        Path("last.pt").unlink()
        save_weights("models/hgpose/last.pt", replace(weights, trained=TRAINED))
        save_weights("models/hgpose/best.pt", replace(weights, trained=TRAINED, mean=(0.5, 0.5, 0.5)))
        save_weights("models/imported/hgpose.pt", weights)
        write_json("metrics/hgpose.json", FIGURES)
        evaluated = {
            "task": "hgpose",
            "weights": file_hash("models/hgpose/best.pt"),
            "file": "models/hgpose/best.pt",
            "trained": TRAINED,
        }
        write_json("metrics/provenance/hgpose.json", evaluated)
        begin("hgpose", finished=True)
        patch.setenv("DVC_EXP_NAME", "trial")
        Path(".gitignore").write_text("# changed\n" + Path(".gitignore").read_text())
        for _ in range(2):
            begin("advpose", finished=False)
        commit("figures")
    return folder


def alone(patch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", "MLFLOW_TRACKING_URI"):
        patch.delenv(name, raising=False)


def commit(message: str, *, first: bool = False) -> None:
    for words in ([["init", "-q"]] if first else []) + [["add", "-A"], ["commit", "-qm", message]]:
        subprocess.run([*GIT, *words], check=True)


def begin(task: str, *, finished: bool) -> str:
    """A run of the parameters above; `finished`.

    With the hashes of the task's weights and the figures of the test.
    """
    tags = {key: str(CIRCUMSTANCES[key]) for key in ("code", "torch", "device")}
    shape = PARAMETERS | {"processes": CIRCUMSTANCES["processes"]}
    tracker = Tracker.start(task, shape, run_id=None, data_hash=str(CIRCUMSTANCES["data"]), tags=tags)
    for step in (1, 20, 40):
        tracker.log({"loss": 1 / step}, step)
    if finished:
        tracker.tag(
            **{f"weights_{which}": file_hash(f"models/{task}/{which}.pt") for which in ("last", "best")}
        )
    tracker.finish("FINISHED" if finished else "KILLED")
    path = Path("checkpoints") / task / "run_id"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(tracker.run_id))
    if finished:
        log_evaluation(path, FIGURES, weights=file_hash(f"models/{task}/last.pt"))
    return str(tracker.run_id)


@pytest.fixture
def workspace(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, made the working folder."""
    shutil.copytree(project, tmp_path / "work space#1", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "work space#1")
    alone(monkeypatch)
    return Path.cwd()


def found(what: str) -> dict[str, Fact]:
    return {fact.name: fact for fact in provenance(what)}


def values(what: str) -> dict[str, object]:
    return {name: fact.value for name, fact in found(what).items()}


def head(*words: str) -> str:
    return subprocess.run(
        ["git", "rev-parse", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def own_run(task: str = "hgpose") -> str:
    return Path("checkpoints", task, "run_id").read_text()


def everything(folder: Path) -> dict[Path, bytes | None]:
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".git" not in path.parts
    }


def test_a_metrics_file_is_led_back_to_revision_parameters_data_torch_and_device(workspace):
    before = everything(workspace)
    for what in (
        "metrics/hgpose.json",
        "metrics/provenance/hgpose.json",
        "hgpose",
        str(workspace / "metrics/hgpose.json"),
    ):
        facts = values(what)
        assert facts.pop("parameters") == PARAMETERS
        assert CIRCUMSTANCES.items() <= facts.items()
        assert facts["figures"] == {"PCKh@0.5": 68.302, "PCK@0.2": 63.289, "PCKh@0.1": 14.398, "AUC": 39.937}
        assert facts["revision"] == {"commit": head("HEAD~1"), "changed": False}
        assert facts["committed"] == {"commit": head("HEAD"), "changed": False}
        assert (
            facts["run"].items()
            >= {"id": own_run(), "name": "hgpose", "status": "FINISHED", "equal": []}.items()
        )
        assert facts["weights"] == {
            "md5": file_hash("models/hgpose/best.pt"),
            "file": "models/hgpose/best.pt",
            "there": True,
        }
    assert everything(workspace) == before


def test_what_has_changed_since_the_evaluation_is_said(workspace):
    Path("models/hgpose/best.pt").write_bytes(Path("models/hgpose/last.pt").read_bytes())
    write_json("metrics/hgpose.json", FIGURES | {"PCK": {"0.2": 1.0}})
    facts = found("hgpose")
    assert facts["weights"].text.endswith(" models/hgpose/best.pt, which is another now")
    assert facts["committed"].text == f"{head('HEAD')}, from which the file differs now"
    Path("models/hgpose/best.pt").unlink()
    Path("metrics/copy.json").write_bytes(Path("metrics/hgpose.json").read_bytes())
    assert found("hgpose")["weights"].text.endswith(", which is gone")
    assert found("metrics/copy.json")["committed"].text == "unknown: metrics/copy.json was never committed"


@pytest.mark.parametrize("which", ["last", "best"])
def test_weights_are_led_back_and_have_figures_if_they_are_what_was_evaluated(which, workspace):
    facts = found(f"models/hgpose/{which}.pt")
    assert facts["parameters"].value == PARAMETERS
    assert {name: facts[name].value for name in CIRCUMSTANCES} == CIRCUMSTANCES
    assert facts["revision"].value == {"commit": head("HEAD~1"), "changed": False}
    assert facts["run"].value["id"] == own_run()
    assert facts["figures"].text.startswith(
        "PCKh@0.5 68.302, " if which == "best" else "unknown: those of metrics/hgpose.json are of other"
    )


def test_a_task_that_was_not_evaluated_is_its_last_weights(workspace):
    Path("metrics/hgpose.json").unlink()
    assert found("hgpose")["weights"].text.endswith(" models/hgpose/last.pt")


def test_imported_weights_are_said_to_know_nothing_of_their_training(workspace):
    facts = found("models/imported/hgpose.pt")
    for name in (*CIRCUMSTANCES, "parameters"):
        assert facts[name].text == "unknown: the weights do not say: they were imported, or trained elsewhere"
    assert facts["run"].text == f"unknown: no run with these weights in sqlite:///{workspace}/mlflow.db"
    assert "parameters  unknown: the weights do not say" in as_text(list(facts.values()))


def test_a_run_is_known_by_its_id_its_beginning_or_its_name(workspace):
    run_id = own_run()
    Path("metrics/hgpose.json").unlink()
    shutil.rmtree("models")  # the name is now the run's alone
    for what in (run_id, run_id[:6], "hgpose"):
        facts = values(what)
        assert facts["parameters"] == PARAMETERS
        assert CIRCUMSTANCES.items() <= facts.items()
        assert facts["task"] == "hgpose"
        assert facts["figures"] == {"PCKh@0.5": 68.302, "PCK@0.2": 63.289, "PCKh@0.1": 14.398, "AUC": 39.937}
        assert facts["run"]["id"] == run_id
        assert facts["revision"] == {"commit": head("HEAD~1"), "changed": False}
        assert facts["weights"].keys() == {"last", "best"}
        assert found(what)["weights"].text == ", ".join(
            f"{md5} {which}.pt" for which, md5 in facts["weights"].items()
        )
        assert "experiment" not in facts


def test_a_run_that_was_killed_in_a_changed_repository_says_so(workspace):
    facts = found(own_run("advpose"))
    assert facts["revision"].text == f"{head('HEAD~1')} + changes"
    assert facts["experiment"].value == "trial"
    assert facts["run"].text.startswith(f"{own_run('advpose')} advpose trial (killed, begun 2")
    assert facts["weights"].text == "unknown: the run has no tag of them: it is killed"
    assert facts["figures"].text == "unknown: the run has none: it was not evaluated"
    assert facts["steps"].value == 40


def test_of_several_runs_with_the_same_weights_the_workspaces_own_comes_first(workspace):
    first, second = own_run(), begin("hgpose", finished=True)
    third = begin("hgpose", finished=True)
    Path("checkpoints/hgpose/run_id").write_text(second)
    assert values("hgpose")["run"].items() >= {"id": second, "equal": [third, first]}.items()
    assert f"; of the same weights: {third}, {first})" in found("hgpose")["run"].text
    shutil.rmtree("checkpoints")
    assert values("hgpose")["run"].items() >= {"id": third, "equal": [second, first]}.items()


def test_figures_from_before_there_was_provenance_are_still_shown(workspace):
    shutil.rmtree("metrics/provenance")
    facts = found("metrics/hgpose.json")
    assert facts["task"].value == "hgpose"
    assert facts["figures"].text.startswith("PCKh@0.5 68.302, ")
    assert facts["committed"].value["commit"] == head("HEAD")
    for name in ("weights", "revision", "run", *CIRCUMSTANCES, "parameters"):
        assert facts[name].text == "unknown: no metrics/provenance/hgpose.json, which evaluate@hgpose writes"


def test_without_a_store_the_rest_is_shown_and_none_is_made(workspace):
    Path("mlflow.db").unlink()
    before = everything(workspace)
    for address in (
        "",
        f"sqlite:///{workspace}/other/mlflow.db",
        f"{workspace}/folder",
        f"file://{workspace}/folder",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            facts = found("hgpose")
            assert (
                facts["run"].text
                == f"unknown: there is no store {address or f'sqlite:///{workspace}/mlflow.db'}"
            )
            assert facts["revision"].text == facts["run"].text
            assert facts["parameters"].value == PARAMETERS
            with pytest.raises(
                UserError, match=r"^0123abcd: no such file or task, and of runs: there is no store "
            ):
                provenance("0123abcd")
    assert everything(workspace) == before


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, b"SQLite format 3\0" + bytes(2000)])
def test_a_store_that_cannot_be_read_is_said_and_left_as_it_is(content, workspace):
    Path("mlflow.db").write_bytes(content)
    assert found("hgpose")["run"].text.startswith(
        f"unknown: sqlite:///{workspace}/mlflow.db cannot be read ("
    )
    assert found("hgpose")["parameters"].value == PARAMETERS
    with pytest.raises(
        UserError, match=r"^0123abcd: no such file or task, and of runs: sqlite:.* cannot be read \("
    ) as error:
        provenance("0123abcd")
    assert "\n" not in str(error.value)
    assert Path("mlflow.db").read_bytes() == content


def test_a_server_that_is_away_is_said_without_its_password(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    line = found("hgpose")["run"].text
    assert line.startswith("unknown: http://127.0.0.1:9 cannot be read (")
    assert "secret" not in line


def test_where_mlflow_is_not_installed_files_are_still_shown(workspace):
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mlflow", "dvc"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from pose.cli import main
for what in ("metrics/hgpose.json", "models/hgpose/best.pt", "0123abcd"):
    sys.argv[1:] = ["show", what]
    main()
"""
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 1
    assert shown.stderr == "error: 0123abcd: no such file or task, and of runs: mlflow is not installed\n"
    lines = shown.stdout.splitlines()
    for line in (
        "run        unknown: mlflow is not installed",
        "steps      40",
        "lr                   0.00025",
    ):
        assert lines.count(line) == 2, line


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "metrics/none.json",
            "metrics/none.json: no such file, expected metrics/TASK.json, models/TASK/last.pt or best.pt, a task, or an",
        ),
        ("models/hgpose", "models/hgpose: is a folder, expected metrics/TASK.json"),
        ("none.pt", "none.pt: no such file, expected"),
        ("", ": no such file, expected"),
        (
            "summary",
            r"metrics/summary.json: found hgpose, advpose, expected the figures of one task, as metrics/TASK.json holds them",
        ),
        ("notes.txt", "notes.txt: cannot be read as weights for use"),
        ("cut.json", "cut.json: not valid JSON, or cut short"),
        (
            "nosuch",
            r"nosuch: no such file, task, run name or beginning \(6 characters\) of a run's id, expected metrics/TASK.json",
        ),
        ("it's", "it's: no such file, task, run name"),
        ("0" * 32, "0{32}: no such file, task, run name"),
        (
            "advpose trial",
            r"advpose trial: found 2 runs, expected the id of one: [0-9a-f]{32} advpose trial, [0-9a-f]{32} advpose trial$",
        ),
    ],
)
def test_what_cannot_be_led_back_is_one_line(what, message, workspace):
    write_json("metrics/summary.json", {"hgpose": {"PCKh@0.5": 68.3}, "advpose": {"PCKh@0.5": 68.0}})
    Path("notes.txt").write_text("not weights")
    Path("cut.json").write_bytes(Path("metrics/hgpose.json").read_bytes()[:40])
    with pytest.raises(UserError, match=f"^{message}") as error:
        run(["show", what])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "' OR 1"}, 'weights: found "\' OR 1"'),
        ({"trained": 3}, "trained: found 3"),
        ({"more": 3}, "unknown key more"),
    ],
)
def test_damaged_provenance_is_refused_by_name(change, message, workspace):
    path = Path("metrics/provenance/hgpose.json")
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(UserError, match=f"^{path}: {message}"):
        provenance("hgpose")


def test_fewer_characters_than_six_are_no_id(workspace):
    with pytest.raises(UserError, match="no such file, task, run name"):
        provenance(own_run()[:5])


def test_lines_are_aligned_and_machines_get_values(workspace, capsys):
    run(["show", "metrics/hgpose.json"])
    lines, parameters = capsys.readouterr().out.rstrip("\n").split("\n\n")
    names = ["task", "figures", "weights", "revision", "run", "committed", *CIRCUMSTANCES]
    assert [line.split()[0] for line in lines.splitlines()] == names
    assert {line[:11].rstrip() for line in lines.splitlines()} == set(names)
    assert "task.network.stem    [16, 32, 32]" in parameters.splitlines()
    assert "lr                   0.00025" in parameters.splitlines()
    run(["show", "metrics/hgpose.json", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content == values("hgpose") | {"unknown": {}}
    unknown = [Fact("device", None, "unknown: nobody knows"), Fact("parameters", {"lr": 1}, "")]
    assert json.loads(as_json(unknown)) == {
        "device": None,
        "parameters": {"lr": 1},
        "unknown": {"device": "nobody knows"},
    }


@pytest.mark.slow
def test_figures_weights_and_run_of_a_real_training_say_the_same(
    params, prepared, prepared_coco, tmp_path, monkeypatch
):
    folder = make_workspace(tmp_path, params, prepared, prepared_coco)
    for name in ("train", "evaluate"):
        status, _, error = run_stage(name, "hgpose", folder=folder)
        assert status == 0, error
    monkeypatch.chdir(folder)
    alone(monkeypatch)
    by_figures, by_run = values("metrics/hgpose.json"), values(own_run())
    by_weights = values(by_figures["weights"]["file"])
    assert by_figures["weights"]["there"]
    assert by_figures["data"] == file_hash(prepared)
    assert by_figures["figures"] == by_weights["figures"] == pytest.approx(by_run["figures"], abs=5e-4)
    for name in ("task", "run", *CIRCUMSTANCES):
        assert by_figures[name] == by_weights[name] == by_run[name] is not None, name
    assert by_figures["parameters"] == by_weights["parameters"]
    assert by_figures["parameters"].items() <= by_run["parameters"].items()
