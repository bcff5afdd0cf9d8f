"""What is drawn can be counted: pixels that changed, and their colours."""

import numpy as np
import pytest
from helpers import COCO, LSP, MPII

from pose.inference.draw import ALONE, HUES, LEFT, RIGHT, SURE, draw_people
from pose.keypoints.people import People

GREY = 128
L_ANKLE, L_KNEE, R_ANKLE, R_KNEE = (MPII.index(name) for name in ("l_ankle", "l_knee", "r_ankle", "r_knee"))


def grey(height: int = 200, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def person(places: dict[int, tuple[float, float]], *, score: float = 1.0, skeleton=MPII) -> People:
    joint_K2 = np.full((len(skeleton), 2), np.nan)
    for joint, place in places.items():
        joint_K2[joint] = place
    return People(joint_K2[None], np.full((1, len(skeleton)), score), np.array([score]))


def together(*people: People) -> People:
    columns = zip(*(vars(one).values() for one in people), strict=True)
    return People(*map(np.concatenate, columns))


def changed(image: np.ndarray) -> np.ndarray:
    return (image != GREY).any(axis=2)


LEFT_SHIN = {L_ANKLE: (40, 20), L_KNEE: (40, 180)}
RIGHT_SHIN = {R_ANKLE: (160, 20), R_KNEE: (160, 180)}


def test_people_are_drawn_on_a_copy():
    image = grey()
    drawn = draw_people(image, person(LEFT_SHIN), MPII)
    assert drawn.shape == image.shape
    assert changed(drawn).any()
    assert not changed(image).any()


def test_a_limb_lies_between_its_joints_in_the_colour_of_its_side():
    drawn = draw_people(grey(), together(person(LEFT_SHIN | RIGHT_SHIN)), MPII)
    assert tuple(drawn[100, 40]) == ALONE[LEFT]
    assert tuple(drawn[100, 160]) == ALONE[RIGHT]
    assert not changed(drawn)[:, 60:140].any()
    assert not changed(drawn)[:10].any()


def test_no_image_of_nobody():
    nobody = People(np.zeros((0, 16, 2)), np.zeros((0, 16)), np.zeros(0))
    np.testing.assert_array_equal(draw_people(grey(), nobody, MPII, truth=nobody), grey())


def test_joints_that_were_not_found_are_left_out_with_their_limbs():
    both = draw_people(grey(), person(LEFT_SHIN), MPII)
    one = draw_people(grey(), person({L_ANKLE: (40, 20)}), MPII)
    assert changed(both)[100, 40]
    assert changed(one)[20, 40]
    assert not changed(one)[100, 40]


def test_the_less_confident_the_fainter():
    people = [person(LEFT_SHIN, score=score) for score in (0.1, 0.4, 0.7, 1.0)]
    shades = [int(draw_people(grey(), one, MPII)[100, 40, 2]) for one in people]
    assert shades == sorted(set(shades))
    assert shades[-1] == ALONE[LEFT][2]


def test_limbs_below_the_threshold_are_dashed():
    def gaps(score: float) -> int:
        column = changed(draw_people(grey(), person(LEFT_SHIN, score=score), MPII))[30:170, 40]
        return int((~column).sum())

    assert gaps(SURE + 0.01) == 0
    assert gaps(SURE - 0.01) > 20


def test_confidence_that_is_not_a_number_counts_as_none():
    people = person(LEFT_SHIN)
    unknown = People(people.joint_PK2, np.full((1, 16), np.nan), people.score_P)
    none = person(LEFT_SHIN, score=0.0)
    np.testing.assert_array_equal(*(draw_people(grey(), one, MPII) for one in (unknown, none)))


def test_zoom_enlarges_the_image_and_keeps_joints_on_their_pixels():
    small = grey(50, 40)
    small[20, 30] = 255
    drawn = draw_people(small, person({L_ANKLE: (30, 20)}), MPII, zoom=8)
    assert drawn.shape == (400, 320, 3)
    y, x = np.nonzero((drawn == ALONE[LEFT]).all(axis=2))
    # The middle of pixel (30, 20) is at ((30 + 0.5) * 8 - 0.5, (20 + 0.5) * 8 - 0.5).
    assert x.mean() == pytest.approx(243.5, abs=0.6)
    assert y.mean() == pytest.approx(163.5, abs=0.6)


def test_lines_grow_with_the_image_and_are_finer_on_smaller_people():
    def width(image: np.ndarray, length: float) -> int:
        shin = person({L_ANKLE: (100, 20), L_KNEE: (100, 20 + length)})
        return int(changed(draw_people(image, shin, MPII))[20 + int(length / 2)].sum())

    assert width(grey(1600, 1600), 1400) > 2 * width(grey(400, 400), 300)
    assert width(grey(1600, 1600), 1400) > 2 * width(grey(1600, 1600), 150)


def test_several_people_differ_and_each_has_two_shades():
    second = {L_ANKLE: (80, 20), L_KNEE: (80, 180), R_ANKLE: (120, 20), R_KNEE: (120, 180)}
    drawn = draw_people(grey(), together(person(LEFT_SHIN | RIGHT_SHIN), person(second)), MPII)
    colours = [tuple(int(channel) for channel in drawn[100, x]) for x in (40, 160, 80, 120)]
    assert len(set(colours)) == 4
    for left, right in (colours[:2], colours[2:]):
        assert sum(left) > sum(right)  # left is the light one, whoever it is


def test_more_people_than_colours_are_drawn_all_the_same():
    columns = [10 * number + 5 for number in range(3 * len(HUES))]
    crowd = together(*(person({L_ANKLE: (x, 20), L_KNEE: (x, 180)}) for x in columns))
    drawn = changed(draw_people(grey(), crowd, MPII))
    assert drawn[100, columns].all()


def test_the_truth_is_thinner_than_a_prediction_and_lies_below_it():
    truth = draw_people(grey(), person({}), MPII, truth=person(LEFT_SHIN))
    predicted = draw_people(grey(), person(LEFT_SHIN), MPII)
    both = draw_people(grey(), person(LEFT_SHIN), MPII, truth=person(LEFT_SHIN))
    assert 0 < changed(truth)[100].sum() < changed(predicted)[100].sum()
    np.testing.assert_array_equal(both[100], predicted[100])


@pytest.mark.parametrize("far", [1e300, -1e12, np.inf, 1e5])
def test_joints_far_outside_do_no_harm(far):
    for score in (0.0, 1.0):
        drawn = draw_people(grey(), person({L_ANKLE: (100, 100), L_KNEE: (far, 100)}, score=score), MPII)
        assert changed(drawn)[100, 100]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 5)])
def test_the_smallest_images_can_be_drawn_on(size):
    drawn = draw_people(grey(*size), person(LEFT_SHIN), MPII, truth=person(LEFT_SHIN), zoom=2)
    assert drawn.shape == (2 * size[0], 2 * size[1], 3)


@pytest.mark.parametrize("skeleton", [MPII, LSP, COCO], ids=lambda skeleton: skeleton.name)
def test_every_skeleton_has_its_sides(skeleton):
    places = dict(enumerate(np.random.default_rng(0).uniform(10, 190, (len(skeleton), 2))))
    drawn = draw_people(grey(), person(places, skeleton=skeleton), skeleton)
    for side in (LEFT, RIGHT):
        assert (drawn == ALONE[side]).all(axis=2).any()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((10, 10), np.uint8), r"uint8 of shape \(10, 10\), expected uint8 RGB"),
        (np.zeros((10, 10, 3)), r"float64 of shape \(10, 10, 3\), expected uint8 RGB"),
    ],
)
def test_other_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        draw_people(image, person({}), MPII)


def test_joints_of_another_skeleton_are_refused():
    with pytest.raises(
        ValueError, match=r"found shape \(16, 2\) a person, expected \(17, 2\) of skeleton coco"
    ):
        draw_people(grey(), person({}), COCO)
    with pytest.raises(ValueError, match="zoom: found 0"):
        draw_people(grey(), person({}), MPII, zoom=0)


def test_names_stand_beside_their_joints_within_the_image_and_not_on_each_other():

    def named(*joints: int) -> np.ndarray:
        found = person({joint: (100, 100 + joint / 100) for joint in joints})
        without, drawn = (draw_people(grey(), found, MPII, names=names) for names in (False, True))
        return (without != drawn).any(axis=(0, 2))

    one, two = named(L_ANKLE), named(L_ANKLE, L_KNEE)
    assert one[105:170].any()
    assert not one[:100].any()
    assert two[30:95].any()
    at_border = draw_people(grey(), person({L_KNEE: (190, 20)}), MPII, names=True)
    assert changed(at_border)[:, 100:170].any()
