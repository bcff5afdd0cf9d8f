"""Pictures in, people out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_active_weights, write_initial_weights

from pose.data.person_set import PersonSet
from pose.inference.predictor import Predictor, model_of, predict_dataset, select_device, tta_outputs
from pose.io.errors import UserError
from pose.keypoints.skeleton import COCO
from pose.models.weights import load_weights, save_weights
from pose.params import Params
from pose.tasks.base import TTAOutput
from pose.tasks.multi import MultiPerson
from pose.tasks.task import build_task


@pytest.fixture
def weights(params: Params, tmp_path: Path) -> Path:
    return write_initial_weights(params, "hgpose", tmp_path)


@pytest.fixture
def multi_weights(params: Params, tmp_path: Path) -> Path:
    return write_active_weights(params, tmp_path)


def test_the_flip_test_of_a_symmetric_network_changes_nothing(params: Params):
    class Symmetric(torch.nn.Module):
        def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
            grey = torch.nn.functional.avg_pool2d(image_B3HW.mean(dim=1, keepdim=True), 4)
            return grey.expand(-1, 16, -1, -1)[:, None]  # every joint's map is the picture itself

    task = build_task(params, "hgpose", device=torch.device("cpu"))
    task.net = Symmetric()
    image, affine = torch.rand(2, 3, 64, 64), torch.eye(3, dtype=torch.float64)[None, :2].repeat(2, 1, 1)
    with_flip, without = (
        task.problem.decode(tta_outputs(task, [image], flip=flip), affine) for flip in (True, False)
    )
    for a, b in zip(with_flip, without, strict=True):
        assert np.allclose(a.joint_PK2, b.joint_PK2, atol=1e-4)
        assert np.allclose(a.score_PK, b.score_PK, atol=1e-6)


def test_tags_of_the_mirror_image_stand_beside_the_others_and_further_sizes_add_heatmaps_only(params: Params):
    task = build_task(params, "hgpose-ae", device=torch.device("cpu"))
    task.net.eval()
    affine = torch.eye(3, dtype=torch.float64)[None, :2]
    views = tta_outputs(task, [torch.rand(1, 3, size, size) for size in (64, 128)], flip=True)
    assert [view.mirrored for view in views] == [False, True, False, True]
    assert isinstance(task.problem, MultiPerson)
    [maps] = task.problem.maps(views, affine)
    assert maps.heatmap_Khw.shape == (17, 16, 16)
    assert maps.tag_KhwT.shape == (17, 16, 16, 2)
    [upright] = task.problem.maps(views[:1], affine)
    assert np.array_equal(upright.tag_KhwT[..., 0], maps.tag_KhwT[..., 0])
    swapped = upright.tag_KhwT[COCO.flip_index, :, ::-1, 0]
    [mirror] = task.problem.maps([TTAOutput(views[0].output_BSChw, mirrored=True)], affine)
    assert np.array_equal(mirror.tag_KhwT[..., 0], swapped)


def test_a_multi_person_network_finds_its_people_in_the_pictures_own_pixels(multi_weights: Path):
    predictor = Predictor.load(multi_weights, "cpu")
    assert predictor.problem == "multi"
    assert predictor.skeleton.name == "coco"
    wide = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    square = np.pad(wide, ((15, 15), (0, 0), (0, 0)))  # as the network sees the wide one anyway
    found, moved = predictor.people([wide, square])
    assert len(found) > 1
    assert found.joint_PK2.shape[1:] == (17, 2)
    assert (np.diff(found.score_P) <= 0).all()
    np.testing.assert_allclose(found.joint_PK2 + [0, 15], moved.joint_PK2, atol=1e-3)
    np.testing.assert_allclose(found.score_PK, moved.score_PK, atol=1e-5)


def test_people_below_a_score_are_left_out_the_others_stay_as_they_are(multi_weights: Path):
    [everyone] = Predictor.load(multi_weights, "cpu").people(
        [np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)]
    )
    least = float(np.median(everyone.score_P))
    some = everyone.above(least)
    assert 0 < len(some) < len(everyone)
    np.testing.assert_array_equal(some.joint_PK2, everyone.joint_PK2[: len(some)])
    assert len(everyone.above(1.1)) == 0


def test_further_sizes_change_what_is_found_and_the_own_one_does_not(multi_weights: Path):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    # 0.9 of this input rounds up to the input's own size, 1.9 to that of 2: what was seen is not seen again
    scales_tried = ([1.0], [], [0.9, 1.0], [1.0, 2.0], [1.0, 1.9, 2.0])
    one, same, rounded, two, again = (
        Predictor.load(multi_weights, "cpu", scales=scales).people([image])[0].joint_PK2
        for scales in scales_tried
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, rounded)
    np.testing.assert_array_equal(two, again)
    assert one.shape != two.shape or not np.allclose(one, two, equal_nan=True)


def test_a_box_makes_no_sense_to_a_multi_person_network(multi_weights: Path):
    with pytest.raises(UserError, match="box: this network finds all people"):
        Predictor.load(multi_weights, "cpu").people([np.zeros((9, 9, 3), dtype=np.uint8)], [(1, 1, 4, 4)])


def test_the_mean_colour_of_imported_weights_is_taken_off_the_pictures(params: Params, weights: Path):
    loaded = load_weights(weights)
    grey = replace(loaded, mean=(0.5, 0.25, 0.125))
    save_weights(weights, grey)
    assert load_weights(weights).mean == grey.mean
    with_mean, without = (model_of(one, weights, torch.device("cpu")) for one in (grey, loaded))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        shifted = image - torch.tensor(grey.mean)[:, None, None]
        assert torch.equal(with_mean(image), without(shifted))


def test_a_box_moves_the_answer_with_the_picture(weights: Path):
    predictor = Predictor.load(weights, "cpu")
    image = np.random.default_rng(0).integers(0, 255, (100, 80, 3), dtype=np.uint8)
    padded = np.pad(image, ((30, 10), (20, 40), (0, 0)))
    [alone] = predictor.people([image], [(10, 10, 60, 80)])
    [moved] = predictor.people([padded], [(30, 40, 60, 80)])
    assert len(alone) == 1
    assert np.allclose(alone.joint_PK2 + [20, 30], moved.joint_PK2, atol=4)


def test_joints_lie_near_the_crop_and_scores_are_numbers(weights: Path):
    predictor = Predictor.load(weights, "cpu")
    [found] = predictor.people([np.zeros((120, 90, 3), dtype=np.uint8)])
    assert found.joint_PK2.shape == (1, 16, 2)
    assert np.isfinite(found.joint_PK2).all()
    assert np.isfinite(found.score_PK).all()
    assert predictor.skeleton.name == "mpii"


def test_the_batch_size_changes_no_answer(params: Params, people: PersonSet):
    task = build_task(params, "hgpose", device=torch.device("cpu"))
    task.net.eval()
    data = task.problem.data(people.path, watched=0)
    one, many = (
        predict_dataset(task, data, data.rows("watched"), batch=batch, flip=False) for batch in (1, 7)
    )
    assert np.allclose([p.joint_PK2 for p in one], [p.joint_PK2 for p in many], atol=1e-3)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), dtype=np.uint8)]
)
def test_what_is_no_rgb_picture_is_refused(weights: Path, image: np.ndarray):
    with pytest.raises(UserError, match="expected uint8 of shape"):
        Predictor.load(weights, "cpu").people([image])


def test_an_empty_box_is_refused(weights: Path):
    with pytest.raises(UserError, match="box: found 0"):
        Predictor.load(weights, "cpu").people([np.zeros((9, 9, 3), dtype=np.uint8)], [(1, 1, 0, 4)])


def test_an_unknown_device_is_named():
    with pytest.raises(UserError, match="device: found 'abacus'"):
        select_device("abacus")
