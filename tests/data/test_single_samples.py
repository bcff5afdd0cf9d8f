"""Samples: draws, crops, targets, order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pose.data.augment import Augment
from pose.data.loader import Loader, ResumableBatchSampler, sequential_batches
from pose.data.person_set import PersonSet
from pose.data.single_samples import RawBatch, person_sample
from pose.keypoints.geometry import invert, to_px, transform
from pose.keypoints.heatmap import decode
from pose.keypoints.skeleton import MPII
from pose.params import Params
from pose.tasks.single import SinglePerson

TURNED = Augment(angle=25.0, widen=1.2, flip=True, gain=(1.0, 0.7, 1.3))


@pytest.mark.parametrize("augment", [Augment(), TURNED], ids=["upright", "turned and flipped"])
def test_decoding_a_samples_target_gives_the_annotated_joints_in_image_pixels(
    people: PersonSet, params: Params, augment: Augment
):
    row = people.rows("train")[3]
    sample = person_sample(people, row, params.single, augment)
    joint_cell, score = decode(torch.from_numpy(sample.heatmap_Khw)[None])
    joint = transform(invert(sample.affine_23), to_px(joint_cell[0].numpy()))
    shown = score[0].numpy() > 0.5
    if augment.flip:
        joint, shown = joint[MPII.flip_index], shown[MPII.flip_index]
    cell_px = 4 / np.linalg.norm(sample.affine_23[:, 0])  # image px that a heatmap cell covers
    assert shown.sum() >= 8
    assert np.abs(joint - people.joint_NK2[row])[shown].max() <= 0.26 * cell_px * np.sqrt(2)


def test_the_crop_shows_the_same_pixels_as_the_affine_says(people: PersonSet, params: Params):
    row = people.rows("train")[0]
    sample = person_sample(people, row, params.single, TURNED)
    picture, packed_affine = people.image(row)
    middle = transform(invert(sample.affine_23), np.array([20.0, 40.0]))
    at = transform(packed_affine, middle)
    blurred = cv2.GaussianBlur(picture, (0, 0), 3)
    expected = cv2.remap(blurred, np.float32([[at[0]]]), np.float32([[at[1]]]), cv2.INTER_LINEAR)[0, 0]
    found = cv2.GaussianBlur(
        sample.image_HW3,
        (0, 0),
        3 * np.linalg.norm((sample.affine_23 @ np.vstack([invert(packed_affine), [0, 0, 1]]))[:2, 0]),
    )
    assert np.abs(found[40, 20].astype(float) - expected).max() < 12


def test_a_draw_depends_on_seed_epoch_and_row_alone(params: Params):
    def draw(seed: int, epoch: int, row: int) -> Augment:
        return Augment.draw(np.random.default_rng([seed, epoch, row]), params.single.augment)

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)}) == 4


def test_draws_stay_within_the_published_bounds(params: Params):
    rng = np.random.default_rng(0)
    draws = [Augment.draw(rng, params.single.augment) for _ in range(2000)]
    angles = np.array([draw.angle for draw in draws])
    widen = np.array([draw.widen for draw in draws])
    rotation, scale = params.single.augment.rotation, params.single.augment.scale
    assert np.abs(angles).max() <= rotation.clip
    assert np.mean(angles != 0) == pytest.approx(rotation.probability, abs=0.04)
    assert (widen >= 1 - scale.spread).all()
    assert (widen <= 1 + scale.spread).all()
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_what_is_loaded(people: PersonSet, params: Params, workers: int):
    data = SinglePerson(params.single).data(people.path, watched=0)
    dataset = data.dataset(data.rows("train"), seed=1, augment=True)
    batches = ResumableBatchSampler(len(dataset), 4, seed=1, start=0, stop=12)
    for alone, shared in zip(
        Loader(dataset, batches, workers=0), Loader(dataset, batches, workers=workers), strict=True
    ):
        assert torch.equal(alone.image_BHW3, shared.image_BHW3)
        assert torch.equal(alone.heatmap_BKhw, shared.heatmap_BKhw)


def test_starting_in_the_middle_gives_the_rest_of_the_same_order():
    whole = list(ResumableBatchSampler(10, 3, seed=1, start=0, stop=9))
    assert list(ResumableBatchSampler(10, 3, seed=1, start=4, stop=9)) == whole[4:]
    assert len({position for batch in whole[:3] for _, position in batch}) == 9  # no one twice in an epoch
    assert whole[:3] != whole[3:6]


def test_processes_share_every_batch_without_overlap():
    whole = list(ResumableBatchSampler(10, 4, seed=1, start=0, stop=5))
    shares = [
        list(ResumableBatchSampler(10, 4, seed=1, start=0, stop=5, rank=rank, ranks=2)) for rank in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_in_order_shows_everyone_once():
    assert [key for batch in sequential_batches(7, 3) for key in batch] == [(0, k) for k in range(7)]


def test_colour_gain_is_applied_on_the_device_and_clipped(people: PersonSet, params: Params):
    sample = person_sample(people, people.rows("train")[0], params.single, Augment(gain=(1.0, 0.5, 2.0)))
    batch = RawBatch.of([sample]).to(torch.device("cpu"))
    plain = torch.from_numpy(sample.image_HW3).float() / 255
    assert batch.image_B3HW.shape == (1, 3, 64, 64)
    assert torch.allclose(batch.image_B3HW[0, 1], plain[..., 1] * 0.5)
    assert torch.allclose(batch.image_B3HW[0, 2], (plain[..., 2] * 2).clamp(max=1))
