"""`pose new-dataset` adds a data set, its stage and its tasks to params.yaml and dvc.yaml."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from helpers import COCO, ROOT, set_param, user_error
from raw_sets import own_person, write_own_set

from pose.cli import run
from pose.experiments.new_dataset import default_name
from pose.params import load_params

Stages = dict[str, tuple[str, list[str], list[str]]]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's parameters and stages, and a set of hands."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    write_own_set(tmp_path / "hand", 60)
    return tmp_path


def texts() -> list[str]:
    return [Path(name).read_text() for name in ("params.yaml", "dvc.yaml")]


def stages(workspace: Path) -> Stages:
    """Command, dependencies (parameters among them) and outputs of each stage, as DVC reads them."""
    with Repo.init(workspace, no_scm=True, force=True) as repo:
        return {
            stage.addressing: (
                str(stage.cmd),
                sorted(dep.def_path + str(getattr(dep, "params", "")) for dep in stage.deps),
                sorted(out.def_path for out in stage.outs),
            )
            for stage in repo.index.stages
        }


def test_old_lines_stay_as_they_are_and_new_ones_are_added(workspace, capsys):
    before = texts()
    run(["new-dataset", "hand"])
    for old, new in zip(before, texts(), strict=True):
        added = iter(new.splitlines())
        lines = [line for line in old.splitlines() if not line.startswith(("datasets:", "  refine: "))]
        assert [line for line in lines if line not in added] == []  # each after the one before
        assert "\n\n\n" not in new
    printed = capsys.readouterr().out
    assert "data set hand, from hand/annotations.json" in printed
    assert "train on it: dvc repro evaluate@hand evaluate@hand-ae" in printed


def test_its_tasks_extend_the_built_in_ones_and_fit_the_size_of_the_set(workspace):
    set_param(workspace, "train.processes", 2)
    run(["new-dataset", "hand"])
    params = load_params()
    single, multi = params.task("hand"), params.task("hand-ae")
    assert (single.problem, multi.problem) == ("single", "multi")
    assert single.dataset == multi.dataset == "hand"
    assert params.task("hgpose").network == single.network
    for task, samples in ((single, 48), (multi, 36)):  # about, of 60; some are held out of `multi`
        steps = samples // task.batch
        assert steps >= 3
        assert 1000 <= steps * task.epochs <= 2200
        assert task.epochs // task.validate_every in (9, 10, 11)
        assert task.batch % 2 == 0  # processes


def test_people_found_in_images_are_refined_by_the_task_of_single_ones_if_there_is_one(workspace):
    run(["new-dataset", "hand", "--name", "alone", "--problem", "multi"])
    run(["new-dataset", "hand"])
    assert load_params().evaluate.refine.get("hand-ae") == "hand"
    assert "alone-ae" not in load_params().evaluate.refine
    found = stages(workspace)
    assert "models/hand" in found["evaluate@hand-ae"][1]
    assert not [one for one in found["evaluate@alone-ae"][1] if one == "models/alone"]


def test_weights_to_begin_from_that_are_nowhere_are_refused_before_anything_is_written(workspace):
    before = load_params()
    with user_error("--init models/hgpos/last.pt: no such file"):
        run(["new-dataset", "hand", "--init", "models/hgpos/last.pt"])
    assert load_params() == before


def test_a_task_may_begin_from_weights_which_its_stage_then_depends_on(workspace):
    run(["new-dataset", "hand", "--init", "models/hgpose-ae/last.pt"])
    for task in ("hand", "hand-ae"):
        init = load_params().task(task).init
        assert (init.weights, init.frozen, init.lr_scale) == ("models/hgpose-ae/last.pt", 0.0, 1.0)
        assert "models/hgpose-ae/last.pt" in stages(workspace)[f"train@{task}"][1]


def test_few_samples_are_augmented_more_than_the_problems_section_says(workspace, monkeypatch):
    run(["new-dataset", "hand", "--name", "few"])
    monkeypatch.setattr("pose.experiments.new_dataset.FEW", 40)  # of 48 people and 36 images
    run(["new-dataset", "hand", "--name", "some"])
    params = load_params()
    single, multi = params.problem("few"), params.problem("few-ae")
    assert single.augment.rotation.probability > params.single.augment.rotation.probability
    assert single.augment.flip == params.single.augment.flip  # what is not named stays
    assert multi.augment.rotation > params.multi.augment.rotation
    assert params.problem("some") == params.single
    assert params.problem("some-ae") == multi


def test_how_many_images_validate_may_be_said(workspace, capsys):
    run(["new-dataset", "hand", "--validation", "0.5"])
    assert load_params().dataset("hand").validation == 0.5
    with pytest.raises(SystemExit):
        run(["new-dataset", "hand", "--name", "other", "--validation", "12"])
    assert "found '12', expected a number from 0 to 1" in capsys.readouterr().err


def test_a_large_set_has_the_batch_of_the_built_in_task(workspace):
    write_own_set(workspace / "large", 1, annotations=[], images=[])
    many = [own_person(k, 1 + k % 30) for k in range(1, 2000)]
    write_own_set(workspace / "large", 30, annotations=many)
    run(["new-dataset", "large", "--problem", "single"])
    params = load_params()
    task = params.task("large")
    assert task.batch == params.task("hgpose").batch
    assert task.epochs < 25
    assert "large-ae" not in params.tasks


def test_dvc_knows_its_stages_and_thinks_the_same_of_the_others(workspace):
    before = stages(workspace)
    run(["new-dataset", "hand", "--name", "five_joints"])
    after = stages(workspace)
    new = {f"{stage}@five_joints{end}" for stage in ("train", "evaluate") for end in ("", "-ae")}
    assert after.keys() - before.keys() == new | {"prepare_five_joints"}
    assert {name for name in before if before[name] != after[name]} == {"report"}
    command, deps, outs = after["prepare_five_joints"]
    assert (command, outs) == ("python -m stages.prepare five_joints", ["data/prepared/five_joints"])
    assert {"hand", "stages/prepare.py", "pose/data/prepare"} <= {*deps}
    assert any("datasets.five_joints" in dep for dep in deps)
    assert "data/prepared/five_joints/people.h5" in after["train@five_joints"][1]
    assert "data/prepared/five_joints" in after["train@five_joints-ae"][1]
    read = {*after["report"][1]} - {*before["report"][1]}
    assert {"metrics/five_joints.json", "predictions/five_joints-ae.json"} <= read
    assert "data/prepared/five_joints" in read
    assert not any("models/" in dep for dep in after["evaluate@five_joints-ae"][1] if "five" not in dep)


def test_sets_are_added_one_after_another_with_a_skeleton_and_a_category(workspace):
    (workspace / "more.yaml").write_text("sigmas: [0.1, 0.1, 0.1]\n")
    run(["new-dataset", "hand", "--problem", "multi"])
    run(["new-dataset", "hand", "--name", "b", "--skeleton", "more.yaml", "--category", "hand"])
    params = load_params()
    assert [*params.datasets] == ["hand", "b"]
    assert params.datasets["b"].model_dump()["skeleton"] == "more.yaml"
    assert {"hand-ae", "b", "b-ae"} <= params.tasks.keys()
    assert "more.yaml" in stages(workspace)["prepare_b"][1]


def test_a_category_without_joints_may_be_said_to_have_the_skeletons(workspace):
    person = {"id": 1, "name": "person"}
    write_own_set(workspace / "bare", joints=COCO.joints, categories=[person])
    command = ["new-dataset", "bare", "--skeleton", "coco"]
    way = r"or --skeleton with --assume-joints \(or datasets.bare.assume_joints: true\) if they are coco's 17"
    with user_error(way):
        run(command)
    run([*command, "--assume-joints"])
    assert load_params().dataset("bare").assume_joints


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hand", "--name", "a b"], "--name: found 'a b', expected letters, digits"),
        (["hand", "--name", "a.b"], "--name: found 'a.b', expected letters, digits"),  # two keys to DVC
        ([""], "data set: sources.0: found ''"),
        (["hand", "--name", "hgpose"], "--name: found hgpose, which params.yaml or dvc.yaml has already"),
        (["hand", "--name", "coco"], "--name: found coco, which params.yaml or dvc.yaml has already"),
        (["none"], "none: no such file or folder"),
        (["hand", "--skeleton", "more.yaml"], "more.yaml: no such file"),
        (["hand", "--category", "paw"], "found categories 'hand', expected 'paw'"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words, message, workspace):
    before = texts()
    with user_error(message):
        run(["new-dataset", *words])
    assert texts() == before


def test_a_set_is_called_by_the_name_that_its_source_has_here(workspace):
    shutil.copytree("hand", "hand.v2")
    Path("my hand").symlink_to("hand.v2")
    names = {"hand.v2": "hand-v2", "my hand": "my-hand", "hand/": "hand"}
    names["hand/annotations.json"] = "annotations"
    assert {source: default_name([source]) for source in names} == names


def test_the_same_set_again_is_refused_and_changes_nothing(workspace):
    run(["new-dataset", "hand"])
    before = texts()
    with user_error(r"--name: found hand, which params\.yaml or dvc\.yaml has already"):
        run(["new-dataset", "hand"])
    assert texts() == before


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_outside_a_workspace_the_missing_file_is_named(name, workspace):
    (workspace / name).unlink()
    left: dict[str, Any] = {path.name: path.stat().st_mtime_ns for path in workspace.iterdir()}
    with user_error(f"{name}: no such file"):
        run(["new-dataset", "hand"])
    assert {path.name: path.stat().st_mtime_ns for path in workspace.iterdir()} == left


def test_a_dvc_yaml_of_other_stages_is_named_and_nothing_is_written(workspace):
    (workspace / "dvc.yaml").write_text("stages: {mine: {cmd: ls}}\n")
    before = texts()
    with user_error(r"dvc.yaml: cannot be read as the stages of this project \(missing: "):
        run(["new-dataset", "hand"])
    assert texts() == before
