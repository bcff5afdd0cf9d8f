"""Intervals over images: what they hold, and how often."""

import numpy as np
import pytest

from pose.keypoints.skeleton import read_skeleton
from pose.metrics.pck import PersonTruth, joint_sums, scores_of
from pose.metrics.scoring.bootstrap import interval, samples

TWO_JOINTS = read_skeleton('{"name": "two", "joints": ["a", "b"]}', "two")


def test_samples_are_as_many_images_as_there_are_and_the_same_for_a_seed():
    drawn = np.concatenate([*samples(7, 250, seed=3)])
    assert drawn.shape == (250, 7)
    assert set(drawn.sum(axis=1).tolist()) == {7}
    np.testing.assert_array_equal(drawn, np.concatenate([*samples(7, 250, seed=3)]))
    assert (drawn != np.concatenate([*samples(7, 250, seed=4)])).any()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.2)


def test_an_interval_leaves_out_as_much_below_as_above_and_what_has_no_value():
    value_B = np.array([*range(1, 1000), np.nan])
    assert interval(value_B, images=10**6) == pytest.approx((25, 975), abs=0.01)
    assert np.isnan(interval(np.full(3, np.nan), images=5)).all()


def test_an_interval_is_wider_for_few_images():
    low, high = interval(np.arange(1, 1000.0), images=10)  # Student's 2.26 deviations instead of 1.96
    assert (low, high) == pytest.approx((8.6, 991.4), abs=0.1)
    assert np.isnan(interval(np.arange(9.0), images=1)).all()


def drawn_people(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the image of each of one or two people, and (N, 2, 2) how far off their joints are predicted, px.

    Joints of hard images are three times as far off.
    """
    image_N = np.repeat(np.arange(images), rng.integers(1, 3, images))
    spread_N = np.where(rng.random(images) < 0.4, 15.0, 5.0)[image_N]
    return image_N, rng.normal(0, 1, (len(image_N), 2, 2)) * spread_N[:, None, None]


def test_intervals_hold_the_truth_as_often_as_they_say():
    # At a reference of 20 px a joint with spread s is within half of it by 1 - exp(-10^2 / (2 s^2)).
    easy, hard = (1 - np.exp(-(10**2) / (2 * spread**2)) for spread in (5, 15))
    true, rng = 100 * (0.6 * easy + 0.4 * hard), np.random.default_rng(1)
    inside = []
    for number in range(400):
        image_N, off_NK2 = drawn_people(rng, images=150)
        people = len(image_N)
        size_N = np.full(people, 20.0)
        truth = PersonTruth(np.zeros((people, 2, 2)), np.ones((people, 2), bool), size_N, size_N, TWO_JOINTS)
        sum_I12 = np.zeros((150, 12))
        np.add.at(sum_I12, image_N, joint_sums(off_NK2, truth).reshape(people, 12))
        drawn = [(times_BI @ sum_I12).reshape(-1, 6, 2) for times_BI in samples(150, 200, seed=number)]
        low, high = interval(scores_of(np.concatenate(drawn), TWO_JOINTS)["PCKh"]["0.5"], 150)
        inside.append(low <= true <= high)
    assert 0.93 <= np.mean(inside) <= 0.97
