"""Images in, people out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import COCO, build_cpu_task, user_error
from torch import Tensor, nn

from pose.data.batch import Inputs
from pose.inference.batches import predict_dataset, tta_outputs
from pose.inference.predictor import Predictor
from pose.models.blocks import PoseNetwork
from pose.tasks.base import TTAOutput
from pose.tasks.task import open_data


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


# Test-time augmentation


class Symmetric(PoseNetwork):
    def forward(self, image_B3HW: Tensor) -> Tensor:
        grey = nn.functional.avg_pool2d(image_B3HW.mean(dim=1, keepdim=True), 4)
        return grey.expand(-1, 16, -1, -1)[:, None]  # every joint's map is the image itself


def test_the_flip_test_of_a_symmetric_network_changes_nothing(params):
    task = replace(build_cpu_task(params, "hgpose"), net=Symmetric())
    image, affine = torch.rand(2, 3, 64, 64), torch.eye(3, dtype=torch.float64)[None, :2].repeat(2, 1, 1)
    with_flip, without = (
        task.problem.decode(tta_outputs(task, Inputs((image,), affine), flip=flip), affine)
        for flip in (True, False)
    )
    for a, b in zip(with_flip, without, strict=True):
        assert np.allclose(a.joint_PK2, b.joint_PK2, atol=1e-4)
        assert np.allclose(a.score_PK, b.score_PK, atol=1e-6)


def test_the_mirrored_image_adds_a_tag_dimension_and_further_sizes_add_heatmaps_only(params):
    task = build_cpu_task(params, "hgpose-ae")
    task.net.eval()
    affine = torch.eye(3, dtype=torch.float64)[None, :2]
    images = tuple(torch.rand(1, 3, size, size) for size in (64, 128))
    outputs = tta_outputs(task, Inputs(images, affine), flip=True)
    assert [output.mirrored for output in outputs] == [False, True, False, True]
    [maps] = task.problem.maps(outputs, affine)
    assert maps.heatmap_Khw.shape == (17, 16, 16)
    assert maps.tag_KhwT.shape == (17, 16, 16, 2)
    [upright] = task.problem.maps(outputs[:1], affine)
    assert np.array_equal(upright.tag_KhwT[..., 0], maps.tag_KhwT[..., 0])
    [mirrored] = task.problem.maps([TTAOutput(outputs[0].output_BSChw, mirrored=True)], affine)
    assert np.array_equal(mirrored.tag_KhwT[..., 0], upright.tag_KhwT[COCO.flip_index, :, ::-1, 0])


def test_further_sizes_change_what_is_found_and_repeated_ones_do_not(multi_weights):
    # 0.9 of this input rounds up to the input's own size, 1.9 to that of 2.
    scales_tried = ([1.0], [], [0.9, 1.0], [1.0, 2.0], [1.0, 1.9, 2.0])
    one, same, rounded, two, again = (
        Predictor.load(multi_weights, "cpu", scales=scales).predict([noise(64, 64)])[0].joint_PK2
        for scales in scales_tried
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, rounded)
    np.testing.assert_array_equal(two, again)
    assert one.shape != two.shape or not np.allclose(one, two, equal_nan=True)


# People


def test_a_multi_person_network_finds_people_in_the_images_own_pixels(multi_weights):
    predictor = Predictor.load(multi_weights, "cpu")
    assert (predictor.problem, predictor.task, predictor.skeleton) == ("multi", "hgpose-ae", COCO)
    wide = noise(90, 120)
    square = np.pad(wide, ((15, 15), (0, 0), (0, 0)))  # as the network sees the wide one anyway
    found, moved = predictor.predict([wide, square])
    assert len(found) > 1
    assert found.joint_PK2.shape[1:] == (17, 2)
    assert (np.diff(found.score_P) <= 0).all()
    np.testing.assert_allclose(found.joint_PK2 + [0, 15], moved.joint_PK2, atol=1e-3)
    np.testing.assert_allclose(found.score_PK, moved.score_PK, atol=1e-5)
    some = found.above(float(np.median(found.score_P)))
    assert 0 < len(some) < len(found)
    np.testing.assert_array_equal(some.joint_PK2, found.joint_PK2[: len(some)])
    assert len(found.above(1.1)) == 0


def test_a_single_person_network_finds_one_person_in_each_image_or_box(weights):
    predictor = Predictor.load(weights, "cpu")
    assert (predictor.problem, predictor.task, predictor.skeleton.name) == ("single", "hgpose", "mpii")
    image = noise(100, 80)
    padded = np.pad(image, ((30, 10), (20, 40), (0, 0)))
    [whole] = predictor.predict([image])
    alone, moved = predictor.predict([image, padded], [(10, 10, 60, 80), (30, 40, 60, 80)])
    for found in (whole, alone, moved):
        assert found.joint_PK2.shape == (1, 16, 2)
        assert np.isfinite(found.joint_PK2).all()
        assert np.isfinite(found.score_PK).all()
    assert np.allclose(alone.joint_PK2 + [20, 30], moved.joint_PK2, atol=4)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(1, 1, 5, 5)], "boxes: found 1, expected one .* for each of 2 images"),
        ([None, (1, np.nan, 5, 5)], r"boxes\[1\]: found .*nan"),
        ([None, "box"], r"boxes\[1\]: found box, expected x, y, width, height"),
        ([None, (1, 1, 0, 5)], "expected a width and a height above 0"),
    ],
)
def test_boxes_that_cannot_be_used_are_named(weights, boxes, message):
    with user_error(message):
        Predictor.load(weights, "cpu").predict([noise(20, 20), noise(20, 20)], boxes)


def test_boxes_may_be_an_array(weights):
    predictor, images = Predictor.load(weights, "cpu"), [noise(20, 20), noise(20, 20)]
    boxes = np.array([[1, 1, 9, 9], [2, 2, 9, 9]])
    for one, other in zip(
        predictor.predict(images, boxes), predictor.predict(images, boxes.tolist()), strict=True
    ):
        np.testing.assert_array_equal(one.joint_PK2, other.joint_PK2)


def test_the_batch_size_changes_no_prediction(params, prepared):
    task, data = build_cpu_task(params, "hgpose"), open_data(params.single, prepared)
    task.net.eval()
    one, many = (predict_dataset(task, data, data.rows("val"), batch=batch, flip=False) for batch in (1, 7))
    assert np.allclose([p.joint_PK2 for p in one], [p.joint_PK2 for p in many], atol=1e-3)


# What is refused


@pytest.mark.parametrize("scale", [0, -1, 9, float("nan")])
def test_a_scale_that_no_image_can_be_shown_at_is_refused_before_weights_are_read(scale):
    with user_error(f"^scales: found 1.0, {scale}, expected numbers from 0.1 to 8$"):
        Predictor.load("none.pt", scales=[1.0, scale])


def test_a_crop_of_one_person_is_not_shown_at_more_than_twice_its_size(weights):
    with user_error(r"last\.pt: found scale 4, expected at most 2 of one person's crop$"):
        Predictor.load(weights, "cpu", scales=[1.0, 4.0])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), dtype=np.uint8)]
)
def test_an_image_that_is_not_rgb_is_refused(weights, image):
    with user_error("expected uint8 of shape"):
        Predictor.load(weights, "cpu").predict([image])
