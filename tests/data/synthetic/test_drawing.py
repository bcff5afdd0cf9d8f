"""Synthetic people: solids on a canvas, bodies, clothes, scenes."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from pose.data.synthetic.canvas import Canvas, draw_parts
from pose.data.synthetic.clothes import Outfit
from pose.data.synthetic.person import Bones, Figure, Part
from pose.data.synthetic.pose import EVERYDAY, SPORT, Build, Pose
from pose.data.synthetic.scene import OVERSAMPLE, Placement, Scene, draw_scene, fit


def bones(seed: int, kinds: dict[str, float]) -> Bones:
    rng = np.random.default_rng(seed)
    return Bones(Build(rng), Pose(rng, kinds))


def facing_of(person: Bones) -> float:
    """1 for a chest that faces the viewer, -1 for one seen from behind."""
    return float(person.turn["chest"][2, 2])


def portrait(seed: int, *, times: int = 1) -> Scene:
    """A person who fills an image, drawn `times` in the same place."""
    rng = np.random.default_rng(seed)
    person = Figure(rng)
    stature, pelvis, (width, height) = fit(person, longer_side=160, margin=0.1)
    placements = [Placement(person, pelvis, stature)] * times
    return draw_scene(rng, width=round(width), height=round(height), placements=placements)


def draw(parts: Sequence[Part], width: int, height: int, x: float, y: float) -> Canvas:
    canvas = Canvas(width, height)
    origin, light = np.array([x, y, 0.0]), np.array([0.0, 0.0, 1.0])
    draw_parts(canvas, parts, origin=origin, zoom=100, identity=1, light=light, dim=1.0)
    return canvas


def grey(value: float, half: tuple[float, float, float], z: float = 0.0) -> Part:
    return Part(np.array([0, 0, z]), np.diag(half), lambda q: np.full((q.shape[1], 3), value))


# ---- canvas ----


def test_an_ellipsoid_covers_the_pixels_that_it_projects_to():
    canvas = draw([grey(200, (0.2, 0.1, 0.3))], 60, 50, 30.0, 20.0)
    y, x = np.mgrid[:50, :60]
    inside = ((x - 30) / 20) ** 2 + ((y - 20) / 10) ** 2 < 1
    assert (canvas.identity.astype(bool) == inside).all()
    assert canvas.depth[20, 30] == pytest.approx(30)  # its surface is nearest to the viewer in the middle
    assert (canvas.colour[inside] == 200).all()


def test_the_nearer_of_two_solids_is_seen_whichever_is_drawn_first():
    near, far = grey(250, (0.1, 0.1, 0.1), z=0.5), grey(50, (0.1, 0.1, 0.1))
    for parts in ([near, far], [far, near]):
        assert (draw(parts, 40, 40, 20.0, 20.0).colour[20, 20] == 250).all()


# ---- bodies and clothes ----


def test_a_person_who_faces_the_viewer_has_the_left_shoulder_on_the_right_of_the_image():
    across = {}
    for seed in range(60):
        person = bones(seed, {"stand": 1.0, "walk": 1.0})
        shoulders = person.joint["l_shoulder"] - person.joint["r_shoulder"]
        across[facing_of(person)] = shoulders[0]
    facing = [distance for cosine, distance in across.items() if cosine > 0.5]
    behind = [distance for cosine, distance in across.items() if cosine < -0.5]
    assert min(len(facing), len(behind)) > 5
    assert min(facing) > 0 > max(behind)


def test_a_fifth_of_the_people_is_seen_from_behind():
    for kinds in (EVERYDAY, SPORT):
        behind = [facing_of(bones(seed, kinds)) < -0.25 for seed in range(120)]
        assert 0.2 <= np.mean(behind) <= 0.5


def test_knees_bend_backwards_and_elbows_forwards_whatever_the_pose():
    for seed in range(80):
        person = bones(seed, SPORT)
        for side in "rl":
            shank = person.joint[f"{side}_ankle"] - person.joint[f"{side}_knee"]
            forearm = person.joint[f"{side}_wrist"] - person.joint[f"{side}_elbow"]
            assert shank @ person.turn[f"{side}_thigh"][:, 2] < 1e-9
            assert forearm @ person.turn[f"{side}_upper_arm"][:, 2] > -1e-9


def test_left_and_right_limbs_are_dressed_alike():
    limbs = Figure(np.random.default_rng(0)).parts[-22:]
    assert [part.paint for part in limbs[:11]] == [part.paint for part in limbs[11:]]


def test_a_face_has_eyes_and_the_back_of_a_head_none():
    point_3N = np.random.default_rng(0).normal(size=(3, 4000))
    point_3N /= np.linalg.norm(point_3N, axis=0)
    for seed in range(10):
        colour_N3 = Outfit(np.random.default_rng(seed)).face(point_3N)
        assert len(np.unique(colour_N3[point_3N[2] > 0.3], axis=0)) >= 4
        assert len(np.unique(colour_N3[point_3N[2] < -0.3], axis=0)) == 1


# ---- scenes ----


def test_joints_lie_on_their_person():
    for seed in range(12):
        scene = portrait(seed)
        place_K2 = np.rint((scene.people[0].mpii.xy_K2 + 0.5) * OVERSAMPLE - 0.5).astype(int)
        near = cv2.dilate((scene.identity_hw == 1).astype(np.uint8), np.ones((9, 9), np.uint8))
        assert near[place_K2[:, 1], place_K2[:, 0]].all()


def test_people_behind_another_person_are_hidden_and_the_other_one_is_not():
    behind, before = portrait(3, times=2).people
    assert behind.mpii.hidden_K.all()
    assert not before.mpii.hidden_K.all()
    np.testing.assert_allclose(behind.mpii.xy_K2, before.mpii.xy_K2)
