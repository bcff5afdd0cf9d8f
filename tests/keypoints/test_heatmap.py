"""Joints to heatmaps and back."""

import numpy as np
import pytest
import torch
from helpers import MPII

from pose.keypoints.heatmap import decode, encode, encode_people, flip_back, peak_positions


def encoded(xy: np.ndarray, *, sigma: float = 1.0, target: str = "subcell") -> torch.Tensor:
    heatmap, inside = encode(xy, np.ones(len(xy), dtype=bool), size=32, sigma=sigma, target=target)
    assert inside.all()
    return torch.from_numpy(heatmap)[None]


@pytest.mark.parametrize("sigma", [0.5, 0.75, 1.0, 2.0])
def test_decoding_an_encoded_joint_returns_it(sigma):
    xy = np.random.default_rng(0).uniform(1, 30, (500, 2))
    joint, score = decode(encoded(xy, sigma=sigma))
    np.testing.assert_allclose(joint[0].numpy(), xy, atol=2e-4)
    assert score.min() > np.exp(-0.25 / sigma**2) - 1e-6  # half a cell away in x and in y


def test_the_floor_convention_loses_at_most_half_a_cell_and_has_no_bias():
    xy = np.random.default_rng(0).uniform(1, 30, (5000, 2))
    joint, _ = decode(encoded(xy, target="floor"), target="floor")
    assert np.abs(joint[0].numpy() - xy).max() <= 0.5 + 1e-6
    assert np.abs((joint[0].numpy() - xy).mean(axis=0)).max() < 0.02


def test_the_floor_convention_moves_a_peak_by_a_quarter_cell_towards_the_larger_neighbour():
    heatmap = torch.zeros(1, 1, 8, 8)
    heatmap[0, 0, 3, 2:5] = torch.tensor([0.2, 0.9, 0.3])
    heatmap[0, 0, 2, 3] = 0.01
    assert decode(heatmap, target="floor")[0][0, 0].tolist() == [3.25, 2.75]


def test_the_peak_is_one_at_a_cells_centre_and_unlabelled_or_outside_joints_have_no_map():
    xy = np.array([[5.0, 7.0], [5.0, 7.0], [40.0, 7.0]])
    heatmap, inside = encode(xy, np.array([True, False, True]), size=32, sigma=1.0)
    assert heatmap[0, 7, 5] == 1 == heatmap[0].max()
    assert heatmap[1:].max() == 0
    assert inside.tolist() == [True, False, False]


@pytest.mark.parametrize("target", ["subcell", "floor"])
def test_a_peak_between_equal_neighbours_or_on_the_border_is_not_moved(target):
    joint, _ = decode(encoded(np.array([[5.0, 7.0], [0.0, 31.0]])), target=target)
    assert joint[0].tolist() == [[5.0, 7.0], [0.0, 31.0]]


def test_a_joint_in_a_border_cell_is_read_from_its_inner_neighbour_and_the_other_direction():
    xy = np.array([[-0.3, 7.2], [7.0, 31.2], [31.4, 12.3]])
    np.testing.assert_allclose(decode(encoded(xy))[0][0].numpy(), xy, atol=1e-3)
    on_border, _ = decode(encoded(xy[:2], target="floor"), target="floor")
    assert on_border[0].tolist() == [[0.0, 7.0], [7.0, 31.0]]


@pytest.mark.parametrize("offset", [(2.3, 0.2), (-2.4, 0.6), (0.1, 1.8)])
def test_a_joint_is_read_exactly_though_another_persons_is_two_cells_away(offset):
    xy_P12 = np.array([[[15.2, 9.3]], [[15.2 + offset[0], 9.3 + offset[1]]]])
    heatmap, cell = encode_people(xy_P12, np.ones((2, 1), dtype=bool), size=32, sigma=1.0)
    found = peak_positions(heatmap, np.array([0]), cell[0], target="subcell")
    np.testing.assert_allclose(found[0], xy_P12[0, 0], atol=0.02)


@pytest.mark.parametrize("target", ["subcell", "floor"])
@pytest.mark.parametrize("value", [0.0, 0.5, -0.5])
def test_a_map_without_a_peak_is_decoded_to_its_first_cell(value, target):
    joint, score = decode(torch.full((1, 2, 4, 4), value), target=target)
    assert joint.tolist() == [[[0, 0]] * 2]
    assert score.tolist() == [[value] * 2]


def test_however_noisy_a_map_is_its_highest_cell_moves_by_half_a_cell_at_most():
    heatmap = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (50, 4, 9, 9)).astype(np.float32))
    for noisy in (heatmap, heatmap - 5, 1e-6 * heatmap, 1e6 * heatmap, heatmap.bfloat16()):
        joint, _ = decode(noisy)
        cell = noisy.flatten(2).argmax(dim=2)
        assert joint.dtype == torch.float32
        assert torch.isfinite(joint).all()
        assert (joint - torch.stack([cell % 9, cell // 9], dim=2)).abs().max() <= 0.5


def test_a_little_noise_moves_a_joint_little():
    rng = np.random.default_rng(0)
    xy = rng.uniform(1, 30, (500, 2))
    noisy = encoded(xy) + torch.from_numpy(rng.normal(0, 0.02, (1, 500, 32, 32)).astype(np.float32))
    error = np.linalg.norm(decode(noisy)[0][0].numpy() - xy, axis=1)
    assert error.mean() < 0.05
    assert error.max() < 0.25


def test_a_cell_that_is_no_peak_is_moved_towards_its_larger_neighbour_by_the_floor_convention_alone():
    heatmap = np.zeros((1, 8, 8), dtype=np.float32)
    heatmap[0, 3, 2:6] = 0.1, 0.3, 0.5, 0.9
    cells = np.array([0, 0]), np.array([3 * 8 + 3, 3 * 8 + 4])
    assert peak_positions(heatmap, *cells, target="floor").tolist() == [[3.25, 3], [4.25, 3]]
    assert (peak_positions(heatmap, *cells)[:, 0] <= [3, 4]).all()


@pytest.mark.parametrize("target", ["subcell", "floor"])
def test_arrays_and_tensors_are_read_alike(target):
    rng = np.random.default_rng(0)
    heatmap = rng.normal(0.2, 1, (3, 7, 5)).astype(np.float32)
    maps, cells = rng.integers(0, 3, 60), rng.integers(0, 35, 60)
    found = peak_positions(*map(torch.from_numpy, (heatmap, maps, cells)), target=target)
    np.testing.assert_allclose(found.numpy(), peak_positions(heatmap, maps, cells, target=target), atol=1e-5)


def test_flipping_back_undoes_a_mirrored_image_joint_by_joint():
    xy = np.random.default_rng(2).uniform(1, 30, (16, 2))
    mirrored_xy = np.column_stack([31 - xy[:, 0], xy[:, 1]])[MPII.flip_index]
    assert torch.allclose(flip_back(encoded(mirrored_xy), MPII.flip_index), encoded(xy), atol=1e-6)


# Several people


@pytest.mark.parametrize("target", ["subcell", "floor"])
def test_one_persons_target_is_that_of_the_single_person_problem_without_its_tails(target):
    rng = np.random.default_rng(0)
    joint_K2, labelled_K = rng.uniform(-6, 38, (17, 2)), rng.random(17) < 0.8
    full_Khw, inside_K = encode(joint_K2, labelled_K, size=32, sigma=1.5, target=target)
    found_Khw, cell_PK = encode_people(joint_K2[None], labelled_K[None], size=32, sigma=1.5, target=target)
    np.testing.assert_array_equal(cell_PK[0] >= 0, inside_K)
    np.testing.assert_allclose(found_Khw, full_Khw, atol=0.012)
    np.testing.assert_allclose(found_Khw[full_Khw > 0.02], full_Khw[full_Khw > 0.02], rtol=1e-5)
    assert found_Khw.dtype == np.float32


def test_where_two_people_meet_the_larger_value_stands():
    joint_PK2 = np.array([[[10.0, 10.2]], [[12.3, 10.0]]])
    together_Khw, _ = encode_people(joint_PK2, np.ones((2, 1), bool), size=24, sigma=1.0)
    alone = [encode_people(one[None], np.ones((1, 1), bool), size=24, sigma=1.0)[0] for one in joint_PK2]
    np.testing.assert_array_equal(together_Khw, np.maximum(*alone))


def test_cells_are_those_of_the_joints_and_minus_one_outside():
    joint_PK2 = np.array([[[3.4, 5.6], [-0.6, 2.0], [-0.4, 7.4], [0.0, 0.0]]])
    heatmap_Khw, cell_PK = encode_people(joint_PK2, np.array([[True, True, True, False]]), size=8, sigma=0.75)
    assert cell_PK.tolist() == [[6 * 8 + 3, -1, 7 * 8 + 0, -1]]
    assert cell_PK.dtype == np.int64
    assert heatmap_Khw[[1, 3]].max() == 0
    assert heatmap_Khw[0].argmax() == cell_PK[0, 0]


def test_nobody_gives_empty_maps():
    heatmap_Khw, cell_PK = encode_people(np.zeros((0, 17, 2)), np.zeros((0, 17), bool), size=8, sigma=1.0)
    assert heatmap_Khw.shape == (17, 8, 8)
    assert not heatmap_Khw.any()
    assert cell_PK.shape == (0, 17)
