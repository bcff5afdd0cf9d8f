"""Samples of one person: the one affine, targets, colours."""

import copy

import cv2
import numpy as np
import pytest
import torch
from helpers import CPU, MPII

from pose.data.augment import Augment
from pose.data.batch import Inputs, SingleTargets
from pose.data.person_set import PersonSet
from pose.data.single_samples import PersonDataset, person_inputs, person_targets
from pose.keypoints.geometry import invert, to_px, transform
from pose.keypoints.heatmap import decode
from pose.params import SingleParams

TURNED = Augment(angle=25.0, widen=1.2, flip=True, gain=(1.0, 0.7, 1.3))


def sample(
    people: PersonSet, row: int, params: SingleParams, augment: Augment
) -> tuple[Inputs, SingleTargets]:
    rows = np.array([row])
    inputs = person_inputs(people, rows, params, [augment])
    return inputs, person_targets(people, rows, params, [augment], inputs.affine_B23.numpy())


@pytest.mark.parametrize("augment", [Augment(), TURNED], ids=["upright", "turned and flipped"])
def test_decoding_a_samples_target_gives_the_annotated_joints_in_image_pixels(people, params, augment):
    row = people.rows("train")[3]
    inputs, targets = sample(people, row, params.single, augment)
    joint_cell, score = decode(targets.heatmap_BKhw)
    affine = inputs.affine_B23[0].numpy()
    joint_K2 = transform(invert(affine), to_px(joint_cell[0].numpy()))
    shown_K = score[0].numpy() > 0.5
    if augment.flip:
        joint_K2, shown_K = joint_K2[MPII.flip_index], shown_K[MPII.flip_index]
    cell_px = 4 / np.linalg.norm(affine[:, 0])  # image px that a heatmap cell covers
    assert shown_K.sum() >= 8
    assert np.abs(joint_K2 - people.joint_NK2[row])[shown_K].max() <= 0.26 * cell_px * np.sqrt(2)


def test_the_crop_shows_the_pixels_that_the_affine_says(people, params):
    row = people.rows("train")[0]
    inputs, _ = sample(people, row, params.single, TURNED)
    image, packed_affine = people.image(row)
    affine = inputs.affine_B23[0].numpy()
    place = transform(packed_affine, transform(invert(affine), np.array([20.0, 40.0])))
    zoom = np.linalg.norm((affine @ np.vstack([invert(packed_affine), [0, 0, 1]]))[:2, 0])
    blurred = cv2.GaussianBlur(image, (0, 0), 3)
    expected = cv2.remap(blurred, np.float32([[place[0]]]), np.float32([[place[1]]]), cv2.INTER_LINEAR)[0, 0]
    found = cv2.GaussianBlur(inputs.images[0][0].numpy(), (0, 0), 3 * zoom)[40, 20]
    assert np.abs(found.astype(float) - expected).max() < 12


def test_a_person_much_larger_than_the_crop_loses_no_pixels(people, params):
    lines = np.zeros((1024, 1024, 3), dtype=np.uint8)
    lines[:, ::8] = 255  # none of which a warp alone may see
    large = copy.copy(people)
    large.images = lambda rows: iter([(lines, np.eye(2, 3))])
    large.centre_N2, large.scale_N = np.full((1, 2), 511.5), np.array([1024 / 200 / params.single.crop])
    image_HW3 = person_inputs(large, np.array([0]), params.single, [Augment()]).images[0][0].numpy()
    assert abs(image_HW3[8:-8, 8:-8].mean() - 255 / 8) < 2
    assert image_HW3[8:-8, 8:-8].std() < 12


@pytest.mark.parametrize("unlabelled", ["ignore", "zero"])
def test_unlabelled_joints_are_masked_or_taught_as_empty_maps(people, params, unlabelled):
    row = int(np.flatnonzero((people.split_N == "train") & (people.labelled_NK.sum(axis=1) < 14))[0])
    single = params.single.model_copy(update={"unlabelled": unlabelled})
    _, targets = sample(people, row, single, Augment())
    labelled_K = torch.from_numpy(people.labelled_NK[row])
    assert torch.equal(targets.mask_BK[0] > 0, labelled_K if unlabelled == "ignore" else labelled_K >= 0)
    assert not targets.heatmap_BKhw[0][~labelled_K].any()


def test_a_sample_depends_on_seed_epoch_and_row_alone(people, params):
    rows = people.rows("train")

    def affine(rows: np.ndarray, epoch: int, position: int, seed: int = 1) -> list:
        dataset = PersonDataset(people, rows, params.single, seed=seed)
        return dataset.__getitems__([(epoch, position)]).inputs.affine_B23.tolist()

    assert affine(rows, 2, 1) == affine(rows[1:], 2, 0)
    others = [affine(rows, 3, 1), affine(rows, 2, 1, seed=2), affine(rows, 2, 0)]
    assert affine(rows, 2, 1) not in others


def test_without_a_seed_there_are_no_targets_and_no_augmentation(people, params):
    dataset = PersonDataset(people, people.rows("test"), params.single)
    batch = dataset.__getitems__([(0, 0), (0, 1)])
    assert batch.targets is None
    assert len(batch) == 2
    expected = person_inputs(people, dataset.rows[:2], params.single, [Augment(), Augment()])
    assert torch.equal(batch.inputs.images[0], expected.images[0])


def test_colour_gain_is_applied_on_the_device_and_clipped(people, params):
    inputs, _ = sample(people, people.rows("train")[0], params.single, Augment(gain=(1.0, 0.5, 2.0)))
    image_3HW = inputs.to(CPU).image_B3HW[0]
    plain_HW3 = inputs.images[0][0].float() / 255
    assert image_3HW.shape == (3, 64, 64)
    assert torch.allclose(image_3HW[1], plain_HW3[..., 1] * 0.5)
    assert torch.allclose(image_3HW[2], (plain_HW3[..., 2] * 2).clamp(max=1))
