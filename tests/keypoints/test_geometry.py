"""Frames and affines."""

import cv2
import numpy as np
import pytest

from pose.keypoints.geometry import compose, crop_affine, invert, to_cell, to_px, transform, zoomed


def test_a_crop_of_its_own_size_leaves_pixels_where_they_are():
    assert np.allclose(crop_affine(np.array([31.5, 31.5]), 64, 64), [[1, 0, 0], [0, 1, 0]])


def test_the_crops_edge_pixels_cover_its_first_and_last_stretch():
    affine = crop_affine(np.array([99.5, 99.5]), 100, 50)  # covers 49.5 .. 149.5 px, two px to one
    corners = transform(affine, np.array([[49.5, 49.5], [149.5, 149.5]]))
    assert np.allclose(corners, [[-0.5, -0.5], [49.5, 49.5]])


def test_a_positive_angle_turns_the_image_counter_clockwise_as_seen():
    affine = crop_affine(np.array([0.0, 0.0]), 100, 100, angle=90)
    right_of_centre = transform(affine, np.array([10.0, 0.0])) - transform(affine, np.array([0.0, 0.0]))
    assert np.allclose(right_of_centre, [0, -10])  # y points down: it is now above


def test_flipping_mirrors_about_the_middle_of_the_crop():
    affines = (crop_affine(np.array([20.0, 30.0]), 64, 64, angle=17, flip=flip) for flip in (False, True))
    plain, mirrored = (transform(affine, np.array([25.0, 28.0])) for affine in affines)
    assert np.allclose(mirrored, [63 - plain[0], plain[1]])


@pytest.mark.parametrize("zoom", [0.5, 1.2, 2.0])
def test_zooming_keeps_the_middle_of_the_crop_and_moves_the_rest_away_from_it(zoom):
    affine = crop_affine(np.array([40.0, 30.0]), 80.0, 64, angle=20.0)
    points = np.array([[40.0, 30.0], [47.0, 21.0]])
    plain, zoomed_N2 = transform(affine, points), transform(zoomed(affine, zoom, 64), points)
    np.testing.assert_allclose(zoomed_N2[0], [31.5, 31.5], atol=1e-9)
    np.testing.assert_allclose(zoomed_N2[1] - 31.5, zoom * (plain[1] - 31.5), atol=1e-9)


def test_inverting_and_composing_undo_each_other():
    affine = crop_affine(np.array([20.0, 30.0]), 77, 64, angle=-33, flip=True)
    assert np.allclose(compose(invert(affine), affine), [[1, 0, 0], [0, 1, 0]])


def test_cells_and_pixels_convert_both_ways_and_agree_at_the_edge():
    assert to_cell(np.array(-0.5)) == -0.5  # both count from the same edge
    assert to_px(to_cell(np.array([3.0, 17.25]))) == pytest.approx([3.0, 17.25])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0.0, 25.0])
def test_pixels_and_joints_move_by_the_same_affine(angle, flip):
    image = np.zeros((120, 160), dtype=np.float32)
    image[70:73, 50:53] = 1  # a blob around (51, 71)
    affine = crop_affine(np.array([60.0, 60.0]), 100, 128, angle=angle, flip=flip)
    moved = cv2.warpAffine(image, affine, (128, 128), flags=cv2.INTER_LINEAR)
    ys, xs = np.mgrid[:128, :128]
    centre_of_mass = np.array([(moved * xs).sum(), (moved * ys).sum()]) / moved.sum()
    assert np.allclose(centre_of_mass, transform(affine, np.array([51.0, 71.0])), atol=0.05)
