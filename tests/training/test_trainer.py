"""Training as the stage runs it.

Outputs, resume, locks, wrong inputs. Real processes, real files, real MLflow.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import (
    CPU,
    enter_folder,
    make_workspace,
    only_error,
    run_stage,
    set_param,
    start_stage,
    with_values,
    write_active_weights,
)

import stages.evaluate
import stages.train
from pose.data.image_set import ImageSet
from pose.data.person_set import SOURCES, SPLITS
from pose.inference.evaluate import evaluate
from pose.inference.predictor import Predictor, load_model, predict_dataset
from pose.inference.thresholds import DETECTION, REACH
from pose.io.errors import UserError
from pose.keypoints.skeleton import COCO
from pose.metrics.oks import TEN
from pose.models.weights import (
    KEYS,
    STATE_FORMAT,
    WEIGHTS_FORMAT,
    fill,
    load_checkpoint,
    load_weights,
    save_torch,
    save_weights,
    weights_of,
)
from pose.params import Params, load_params
from pose.tasks.multi import MultiPerson
from pose.tasks.task import build_problem, build_task
from pose.tracking.base import NullTracker
from pose.training.checkpoint import fingerprint
from pose.training.lock import FolderLock
from pose.training.trainer import check, train

CURVE = {"single": "accuracy", "multi": "precision"}
TERMS = {"single": ["heatmap"], "multi": ["heatmap", "pull", "push"]}
GAME = ["E_real", "E_fake", "k", "balance", "convergence"]
FIGURES = {"single": ["PCKh@0.5", "PCK@0.2"], "multi": ["AP", "AP50", "AR"]}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["advpose", "advpose-ae"])  # which have all that the plain ones have
def test_a_run_writes_weights_history_and_metrics_and_twice_the_same_bits(
    params: Params,
    prepared: Path,
    prepared_coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
):
    problem = build_problem(params.problem(params.task(task).problem))
    folders = [make_workspace(tmp_path / name, params, prepared, prepared_coco) for name in ("a", "b")]
    for folder in folders:
        status, out, err = run_stage("train", task, folder=folder)
        assert status == 0, err
        assert "trained" in out
        enter_folder(folder, monkeypatch)
        evaluate(load_params(), task)
    for file in (
        f"models/{task}/last.pt",
        f"models/{task}/best.pt",
        f"metrics/{task}.json",
        f"metrics/plots/{task}/joints.csv",
        f"metrics/plots/{task}/{CURVE[problem.kind]}.csv",
        f"predictions/{task}{problem.results}",
    ):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    history = pd.read_csv(folders[0] / f"metrics/plots/{task}/train.csv")
    game = GAME if params.task(task).adversary else []
    assert list(history.columns) == ["step", "lr", *TERMS[problem.kind], "loss", *game]
    assert history[game].iloc[-1].notna().all()
    valid = pd.read_csv(folders[0] / f"metrics/plots/{task}/val.csv")
    figures = FIGURES[problem.kind]
    assert list(valid.columns)[: 2 + len(figures)] == ["step", "epoch", *figures]
    assert {f"train {name}" for name in figures} <= set(valid.columns)
    assert len(valid) == params.tasks[task].epochs
    assert len((folders[0] / f"checkpoints/{task}/run_id").read_text()) == 32
    assert set(load_checkpoint(folders[0] / f"checkpoints/{task}/latest.pt")) == {
        "format",
        *KEYS[STATE_FORMAT],
    }
    assert set(torch.load(folders[0] / f"models/{task}/last.pt", weights_only=True)) == {
        "format",
        *KEYS[WEIGHTS_FORMAT],
    }


@pytest.mark.slow
def test_being_asked_to_end_saves_first(workspace: Path):
    set_param(workspace, "tasks.hgpose.epochs", 400)
    process = start_stage("train", "hgpose", folder=workspace)
    state = workspace / "checkpoints/hgpose/latest.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    before = load_checkpoint(state)["progress"]["step"]
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; the same command goes on from here" in err
    assert load_checkpoint(state)["progress"]["step"] >= before


@pytest.mark.slow
def test_a_second_writer_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    enter_folder(workspace, monkeypatch)
    with FolderLock(Path("checkpoints/hgpose")), pytest.raises(UserError, match="is writing there already"):
        stages.train.main("hgpose")


@pytest.mark.slow
def test_a_picture_too_small_to_be_normalised_alone_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    enter_folder(workspace, monkeypatch)
    set_param(workspace, "tasks.hgpose.batch", 1)
    expected = r"^tasks.hgpose.batch: found 1 for 1 processes, expected 2 pictures for each or a larger input"
    with pytest.raises(UserError, match=expected):
        train(load_params(), "hgpose", record=NullTracker())


@pytest.mark.slow
def test_two_processes_share_the_pictures_of_several_people_and_choose_thresholds_once(workspace: Path):
    set_param(workspace, "train.processes", 2)
    set_param(workspace, "multi.thresholds.tune", True)
    status, out, err = run_stage("train", "hgpose-ae", folder=workspace)
    assert status == 0, err
    assert "2 processes on" in out
    assert len(re.findall(r"thresholds by 4 [a-z-]+ images", out)) in (
        1,
        2,
    )  # of the last weights, and of the best if they are others
    assert load_weights(workspace / "models/hgpose-ae/last.pt").task == "hgpose-ae"
    valid = pd.read_csv(workspace / "metrics/plots/hgpose-ae/val.csv")
    assert valid["AP"].between(0, 1).all()


@pytest.mark.slow
def test_epochs_may_be_raised_to_train_on(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    enter_folder(workspace, monkeypatch)
    train(load_params(), "hgpose", record=NullTracker())
    step = load_checkpoint(Path("checkpoints/hgpose/latest.pt"))["progress"]["step"]
    set_param(workspace, "tasks.hgpose.epochs", 3)
    capsys.readouterr()
    train(load_params(), "hgpose", record=NullTracker())
    assert f"goes on from step {step} of {step // 2 * 3}" in capsys.readouterr().out
    valid = pd.read_csv("metrics/plots/hgpose/val.csv")
    assert valid["epoch"].tolist() == [1, 2, 3]


@pytest.mark.slow
def test_mistakes_in_params_are_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    set_param(workspace, "lr", "fast")
    assert (
        only_error(run_stage("train", "hgpose", folder=workspace))
        == "error: params.yaml: lr: found 'fast', input should be a valid number"
    )
    enter_folder(workspace, monkeypatch)
    set_param(workspace, "lr", 0.001)
    with pytest.raises(UserError, match="no task 'dance'"):
        stages.train.main("dance")
    set_param(workspace, "tasks.hgpose.batch", 1000)
    with pytest.raises(UserError, match=r"expected at least tasks.hgpose.batch = 1000"):
        stages.train.main("hgpose")
    with pytest.raises(UserError, match=r"models/hgpose/last.pt: no such file"):
        stages.evaluate.main("hgpose")


def altered(prepared: Path, path: Path, column: str, value: float) -> Path:
    """The prepared people, with one value for all of them in a column."""
    shutil.copy(prepared, path)
    with h5py.File(path, "r+") as file:
        file[column][:] = value
    return path


def test_people_that_no_figure_can_be_made_of_are_named_before_training(
    params: Params, prepared: Path, tmp_path: Path
):
    path = altered(prepared, tmp_path / "people.h5", "source", SOURCES.index("mpii"))
    check(params, "hgpose", 1, prepared=path)
    altered(path, tmp_path / "headless.h5", "head_size", float("nan"))
    with pytest.raises(
        UserError,
        match=r"headless.h5: the 8 people held out of training have no head size, .* mpii_human_pose_v1_u12_1.mat",
    ):
        check(params, "hgpose", 1, prepared=tmp_path / "headless.h5")


def test_where_nobody_is_held_out_it_says_what_would(params: Params, prepared: Path, tmp_path: Path):
    path = altered(prepared, tmp_path / "people.h5", "split", SPLITS.index("train"))
    with pytest.raises(
        UserError,
        match=r"found no people held out of training, expected some \(prepare.lspet_held_out .* LSP's own",
    ):
        check(params, "hgpose", 1, prepared=path)


SINGLE, MULTI = {"hgpose", "advpose"}, {"hgpose-ae", "advpose-ae"}


@pytest.mark.parametrize(
    ("key", "value", "restarted"),
    [
        ("multi.sigma", 1.7, MULTI),
        ("multi.held_out", 3, MULTI),
        ("multi.augment.flip", 0.1, MULTI),
        ("multi.thresholds.tune", False, MULTI),
        ("tasks.hgpose-ae.weights.pull", 0.7, {"hgpose-ae"}),
        ("single.sigma", 1.7, SINGLE),
        ("tasks.hgpose.batch", 5, {"hgpose"}),
        ("tasks.advpose.adversary.weight", 0.7, {"advpose"}),
        ("lr", 0.1, {*SINGLE, *MULTI}),
        ("train.precision", "bfloat16", {*SINGLE, *MULTI}),
        ("tasks.hgpose-ae.epochs", 9, set()),
        ("evaluate.flip_test", False, set()),
        ("train.workers", 1, set()),
    ],
)
def test_a_change_restarts_the_tasks_that_it_shapes_and_no_other(
    params: Params, key: str, value: object, restarted: set[str]
):
    params = with_values(params, {"train.precision": "float32", "multi.thresholds.tune": True})
    other = with_values(params, {key: value})
    assert {
        task for task in params.tasks if fingerprint(params, task, "hash") != fingerprint(other, task, "hash")
    } == restarted


def evaluated(params: Params, prepared_coco: Path, folder: Path) -> dict[str, dict[str, float]]:
    """What the evaluation of untrained multi-person weights writes as its figures, into the folder, which becomes the working one."""
    (folder / "models" / "hgpose-ae").mkdir(parents=True)
    write_active_weights(params, folder / "models" / "hgpose-ae")
    evaluate(params, "hgpose-ae", prepared=prepared_coco)
    return json.loads((folder / "metrics/hgpose-ae.json").read_text())


def test_evaluating_a_multi_person_task_writes_figures_curves_and_people(
    params: Params, prepared_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    figures = evaluated(params, prepared_coco, tmp_path)
    images = ImageSet(prepared_coco)
    test = images.rows("validation")
    assert list(figures) == ["COCO", "images", "COCO without tags", "COCO train", "grouping"]
    for table in ("COCO", "COCO without tags", "COCO train"):
        assert {"AP", "AP50", "AP75", "AR", "AR50", "AR75"} <= figures[table].keys() <= set(TEN)
        assert all(0 <= value <= 1 and value == round(value, 4) for value in figures[table].values())
    assert figures["images"] == {
        "all": len(test),
        "with people": len(np.intersect1d(test, images.row_N)),
        "people": int(np.isin(images.row_N, test).sum()),
        "train": len(images.rows("train")) - params.multi.held_out,
    }
    thresholds = params.multi.thresholds
    assert figures["grouping"].keys() == {"detection_threshold", "tag_threshold", "max_distance"}
    assert figures["grouping"]["detection_threshold"] == thresholds.detection
    assert figures["grouping"]["tag_threshold"] == thresholds.tag
    precision = pd.read_csv("metrics/plots/hgpose-ae/precision.csv")
    assert list(precision.columns) == ["recall", "OKS 0.5", "OKS 0.75", "mean"]
    assert precision["recall"].tolist() == pytest.approx(np.linspace(0, 1, 101))
    joints = pd.read_csv("metrics/plots/hgpose-ae/joints.csv")
    assert list(joints.columns) == ["joint", "similarity", "right", "people"]
    assert joints["joint"].tolist() == list(COCO.joints)
    results = json.loads(Path("predictions/hgpose-ae.json").read_text())
    assert {result["image_id"] for result in results} <= set(images.id_I[test].tolist())
    assert {len(result["keypoints"]) for result in results} == {51}
    assert sorted(path.as_posix() for path in Path("metrics").rglob("*.*")) == [
        "metrics/hgpose-ae.json",
        "metrics/plots/hgpose-ae/joints.csv",
        "metrics/plots/hgpose-ae/precision.csv",
        "metrics/provenance/hgpose-ae.json",
    ]


def test_images_trained_on_are_scored_only_if_asked_for(
    params: Params, prepared_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    few, none = (
        with_values(params, {"evaluate.train_images": number, "evaluate.flip_test": False})
        for number in (3, 0)
    )
    assert evaluated(few, prepared_coco, tmp_path)["images"]["train"] == 3
    shutil.rmtree("models")
    figures = evaluated(none, prepared_coco, tmp_path)
    assert "COCO train" not in figures
    assert "train" not in figures["images"]


def test_the_figures_without_tags_are_those_of_grouping_by_distance_at_the_reach_that_is_named(
    params: Params, prepared_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    params = with_values(params, {"multi.thresholds.reach": 0.12345})
    figures = evaluated(params, prepared_coco, tmp_path)
    assert figures["grouping"]["max_distance"] in REACH
    model = load_model("models/hgpose-ae/last.pt", "cpu")
    assert isinstance(model.problem, MultiPerson)
    data = model.problem.data(prepared_coco, watched=params.train.val_samples)
    best = {}
    for detection in DETECTION:  # the one that was chosen is not written: one of them gives what is
        chosen = model.problem.params.thresholds.model_copy(
            update={"detection": detection, "max_distance": figures["grouping"]["max_distance"]}
        )
        problem = replace(
            model.problem,
            by_tags=False,
            params=model.problem.params.model_copy(update={"thresholds": chosen}),
        )
        rows = data.rows("test")
        found = predict_dataset(
            replace(model, problem=problem), data, rows, batch=8, flip=params.evaluate.flip_test
        )
        best[detection] = {name: round(value, 4) for name, value in data.score(found, rows)["COCO"].items()}
    assert figures["COCO without tags"] in best.values()


def test_weights_of_another_task_are_not_evaluated(
    params: Params, prepared_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save_weights("models/hgpose-ae/last.pt", weights_of(build_task(params, "hgpose", device=CPU)))
    with pytest.raises(
        UserError, match=r"models/hgpose-ae/last\.pt: weights of task 'hgpose', expected 'hgpose-ae'"
    ):
        evaluate(params, "hgpose-ae", prepared=prepared_coco)


def test_saving_leaves_no_half_file_and_no_other_one(tmp_path: Path):
    save_torch(tmp_path / "x.pt", {"format": "a"})
    with pytest.raises(AttributeError):
        save_torch(tmp_path / "x.pt", {"not": lambda: None})
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    assert torch.load(tmp_path / "x.pt", weights_only=True) == {"format": "a"}


def test_weights_for_use_come_back_as_the_same_network(params: Params, tmp_path: Path):
    task = build_task(params, "hgpose", device=CPU)
    save_weights(tmp_path / "last.pt", weights_of(task))
    model = load_model(tmp_path / "last.pt", "cpu")
    image = torch.rand(1, 3, 64, 64)
    assert torch.allclose(model(image), task.net.eval()(image), atol=1e-5)  # the layouts in memory differ


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None], ids=["empty", "damaged", "another format"])
def test_something_else_than_weights_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "weights.pt"
    if content is None:
        torch.save({"format": "resume"}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_weights_with_an_entry_missing_name_it(tmp_path: Path):
    torch.save({"format": "pose-weights-3", "task": "hgpose"}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"odd\.pt: no entry 'problem', expected weights for use"):
        load_weights(tmp_path / "odd.pt")


def test_truncated_weights_are_named(params: Params, tmp_path: Path):
    path = tmp_path / "last.pt"
    save_weights(path, weights_of(build_task(params, "hgpose", device=CPU)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"last\.pt: cannot be read"):
        Predictor.load(path)


def test_weights_of_another_architecture_name_the_tensor(params: Params):
    net = build_task(params, "hgpose", device=CPU).net
    tensors = dict(net.state_dict())
    name = next(iter(tensors))
    with pytest.raises(
        UserError, match=rf"x\.pt: of another architecture: tensor {re.escape(name)}: found \(1,\), expected"
    ):
        fill(net, tensors | {name: torch.zeros(1)}, "x.pt")
    with pytest.raises(UserError, match="tensor more is not part of the network"):
        fill(net, tensors | {"more": torch.zeros(1)}, "x.pt")
