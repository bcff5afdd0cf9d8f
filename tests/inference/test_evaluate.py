"""What an evaluation refuses; what it writes is tested with a trained task."""

from dataclasses import replace
from typing import Any

import cv2
import pytest
import torch
from coco_files import coco_params, image_entry, person_entry, write_annotations
from helpers import (
    MPII,
    build_cpu_task,
    user_error,
    with_values,
    write_active_weights,
    write_initial_weights,
)

from pose.data.prepare.coco import prepare_coco
from pose.inference.batches import tta_outputs
from pose.inference.evaluate import evaluate, evaluated_weights
from pose.models.weights import load_weights, save_weights
from pose.params import SplitCounts
from pose.tasks.base import TTAOutput
from pose.tasks.fingerprint import changed_params
from pose.tasks.task import build_task
from pose.training.trainer import train


def test_a_name_that_is_no_task_is_refused_as_one(params, tmp_path):
    with user_error("no task 'hgpos', expected one of: hgpose"):
        evaluate(params, "hgpos", folder=tmp_path)


def test_weights_of_another_task_are_refused(params, prepared, tmp_path):
    path = evaluated_weights(params, "advpose", tmp_path)
    assert path == tmp_path / "models" / "advpose" / "last.pt"
    save_weights(path, build_cpu_task(params, "hgpose").weights())
    with user_error(r"last\.pt: weights of task 'hgpose', expected 'advpose'"):
        evaluate(params, "advpose", folder=tmp_path, prepared=prepared)


def test_weights_of_another_problem_are_refused(params, prepared, tmp_path):
    weights = build_cpu_task(params, "hgpose-ae").weights()
    save_weights(evaluated_weights(params, "hgpose", tmp_path), replace(weights, task="hgpose"))
    with user_error(r"last\.pt: weights of problem multi, expected single"):
        evaluate(params, "hgpose", folder=tmp_path, prepared=prepared)


def test_a_tasks_override_is_trained_stored_and_evaluated(params, prepared, tmp_path):
    size = 2 * params.single.input_size
    override = {"input_size": size, "augment": {"flip": 0.0}}
    params = with_values(params, {"tasks.hgpose.override": override, "tasks.hgpose.epochs": 1})
    train(params, "hgpose", folder=tmp_path, prepared=prepared)
    weights = load_weights(evaluated_weights(params, "hgpose", tmp_path))
    assert weights.inference["input_size"] == size
    assert (weights.provenance["single.input_size"], weights.provenance["single.augment.flip"]) == (size, 0.0)
    assert weights.provenance["source"] == params.data.root
    scores = evaluate(params, "hgpose", folder=tmp_path, prepared=prepared)
    assert scores
    assert changed_params(params, "hgpose", weights.provenance) == {}


def test_weights_of_another_skeleton_than_the_data_are_refused(params, prepared, tmp_path):
    renamed = MPII.model_copy(update={"name": "other"})
    task = build_task(params, "hgpose", skeleton=renamed, device=build_cpu_task(params, "hgpose").device)
    save_weights(evaluated_weights(params, "hgpose", tmp_path), task.weights())
    found = "joints of skeleton mpii, expected those of .*last.pt, other"
    with user_error(f"{prepared.name}: found {found}"):
        evaluate(params, "hgpose", folder=tmp_path, prepared=prepared)
    assert not (tmp_path / "metrics").exists()


def test_images_without_anybody_to_score_are_refused(params, tmp_path):
    for number, name in ((1, "train2017"), (2, "val2017")):
        people = [person_entry(number, number, joints=0)]
        write_annotations(tmp_path, name, [image_entry(number)], people)
    folder, anybody = tmp_path / "prepared", coco_params(min_people=SplitCounts(train=0, validation=0))
    prepare_coco(tmp_path, folder, params=anybody, seed=1, workers=1)
    weights = build_cpu_task(params, "hgpose-ae").weights()
    save_weights(evaluated_weights(params, "hgpose-ae", tmp_path), weights)
    with user_error(r"coco\.h5: found nobody with a labelled joint in 1 images, expected some"):
        evaluate(params, "hgpose-ae", folder=tmp_path, prepared=folder)
    assert not (tmp_path / "metrics").exists()


@pytest.mark.parametrize(
    ("flip", "flip_test", "seen"), [(0.5, True, {True}), (0.5, False, {False, True}), (0.0, True, {False})]
)
def test_a_network_is_tuned_and_evaluated_on_mirrored_images_if_it_was_trained_on_some(
    flip, flip_test, seen, params, prepared_coco, tmp_path, monkeypatch
):
    flips = []

    def outputs(*args: Any, flip: bool) -> list[TTAOutput]:
        flips.append(flip)
        return tta_outputs(*args, flip=flip)

    monkeypatch.setattr("pose.inference.batches.tta_outputs", outputs)
    changes = {"tasks.hgpose-ae.override": {"augment": {"flip": flip}}, "evaluate.flip_test": flip_test}
    values = with_values(params, changes | {"evaluate.refine": {}})
    place = {"folder": tmp_path, "prepared": prepared_coco}
    train(values, "hgpose-ae", max_steps=1, **place)
    assert flips[-1] == (flip > 0)  # thresholds are tuned last; validation looks at images as they are
    flips.clear()
    evaluate(values, "hgpose-ae", **place)
    assert {*flips} == seen


@pytest.mark.parametrize(
    ("key", "other", "scale"), [("crop_scales", "scales", 0.8), ("scales", "crop_scales", 2.0)]
)
def test_a_task_is_evaluated_at_the_sizes_that_its_problem_has(
    key, other, scale, params, prepared, prepared_coco, tmp_path
):
    name, data = ("hgpose", prepared) if key == "crop_scales" else ("hgpose-ae", prepared_coco)
    folder = evaluated_weights(params, name, tmp_path).parent
    if name == "hgpose":
        write_initial_weights(params, name, folder)
    else:
        write_active_weights(params, folder)

    def found(**scales: list[float]) -> bytes:
        changes = {f"evaluate.{key}": sizes for key, sizes in scales.items()} | {"evaluate.refine": {}}
        evaluate(with_values(params, changes), name, folder=tmp_path, prepared=data)
        [file] = (tmp_path / "predictions").iterdir()
        return file.read_bytes()

    assert found() == found(**{other: [1.0, scale]}) != found(**{key: [1.0, scale]})


def test_an_evaluation_leaves_the_threads_as_they_were(params, prepared, tmp_path):
    torch.set_num_threads(2)  # every test begins with one
    cv2.setNumThreads(2)
    save_weights(evaluated_weights(params, "hgpose", tmp_path), build_cpu_task(params, "hgpose").weights())
    evaluate(params, "hgpose", folder=tmp_path, prepared=prepared)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
