"""Joints to heatmaps and back."""

from __future__ import annotations

import numpy as np
import torch

from pose.geometry import to_cell, to_px
from pose.heatmap import decode, encode, flip_back
from pose.skeleton import MPII


def encoded(xy: np.ndarray, **options: str) -> torch.Tensor:
    heatmap, inside = encode(xy, np.ones(len(xy), dtype=bool), size=32, sigma=1.0, **options)
    assert inside.all()
    return torch.from_numpy(heatmap)[None]


def test_decoding_an_encoded_joint_returns_it_to_a_quarter_cell():
    xy = np.random.default_rng(0).uniform(1, 30, (200, 2))
    joint, score = decode(encoded(xy))
    assert np.abs(joint[0].numpy() - xy).max() <= 0.25 + 1e-6
    assert np.abs((joint[0].numpy() - xy).mean(axis=0)).max() < 0.02  # and without bias
    assert score.min() > 0.75


def test_the_floor_convention_loses_at_most_half_a_cell_and_has_no_bias():
    xy = np.random.default_rng(0).uniform(1, 30, (5000, 2))
    joint, _ = decode(encoded(xy, target="floor"))
    assert np.abs(joint[0].numpy() - xy).max() <= 0.5 + 1e-6
    assert np.abs((joint[0].numpy() - xy).mean(axis=0)).max() < 0.02


def test_pixels_survive_the_way_to_cells_and_back_without_bias():
    px = np.random.default_rng(1).uniform(4, 120, (5000, 2))
    joint, _ = decode(encoded(to_cell(px)))
    assert np.abs((to_px(joint[0].numpy()) - px).mean(axis=0)).max() < 0.05  # of a pixel: half-pixel mistakes would be 0.5


def test_the_peak_is_one_at_a_cells_centre_and_unlabelled_or_outside_joints_have_no_map():
    xy = np.array([[5.0, 7.0], [5.0, 7.0], [40.0, 7.0]])
    heatmap, inside = encode(xy, np.array([True, False, True]), size=32, sigma=1.0)
    assert heatmap[0, 7, 5] == 1 == heatmap[0].max()
    assert heatmap[1:].max() == 0
    assert inside.tolist() == [True, False, False]


def test_a_tie_between_neighbours_is_not_moved():
    joint, _ = decode(encoded(np.array([[5.0, 7.0]])))
    assert joint[0, 0].tolist() == [5.0, 7.0]


def test_a_peak_on_the_border_stays_there():
    joint, _ = decode(encoded(np.array([[0.0, 31.0]])))
    assert joint[0, 0].tolist() == [0.0, 31.0]


def test_flipping_back_undoes_a_mirrored_image_joint_by_joint():
    xy = np.random.default_rng(2).uniform(1, 30, (16, 2))
    mirrored_xy = np.column_stack([31 - xy[:, 0], xy[:, 1]])[MPII.flip_index]
    assert torch.allclose(flip_back(encoded(mirrored_xy), MPII.flip_index), encoded(xy), atol=1e-6)
