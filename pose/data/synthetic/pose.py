"""Builds and poses of synthetic people: random lengths and joint angles within what bodies can do.

Frame. body: x to the person's left, y up, z to the person's front. The unit of length is the person's
stature. Angles are degrees. Side 0 is the right one, side 1 the left one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice", bound=Hashable)


def pick(rng: np.random.Generator, shares: Mapping[Choice, float]) -> Choice:
    """One of the keys, as often as its share of the sum says."""
    mark = rng.random() * sum(shares.values())
    for choice, share in shares.items():
        mark -= share
        if mark < 0:
            return choice
    return choice


# How often each pose is drawn: everyday people (MPII, COCO), and sport (LSP, LSPET).
EVERYDAY = {
    "stand": 0.20, "walk": 0.12, "run": 0.11, "sit": 0.14, "jump": 0.07, "crouch": 0.07, "lunge": 0.08,
    "bend": 0.06, "dance": 0.07, "handstand": 0.04, "lie": 0.04,
}  # fmt: skip
GATHERED = {"stand": 0.6, "walk": 0.3, "dance": 0.1}
SPORT = {
    "stand": 0.10, "walk": 0.06, "run": 0.17, "sit": 0.05, "jump": 0.18, "crouch": 0.08, "lunge": 0.12,
    "bend": 0.06, "dance": 0.09, "handstand": 0.06, "lie": 0.03,
}  # fmt: skip
HALF = 0.5  # share of the people who look about into the camera by default


class Build:
    """A body of varied proportions, one in eight a child's: lengths and half widths, in statures."""

    def __init__(self, rng: np.random.Generator) -> None:
        child = rng.random() < 0.12
        self.head = rng.uniform(0.165, 0.19) if child else rng.uniform(0.138, 0.162)  # chin to crown
        legs = rng.uniform(0.96, 1.06) * (0.93 if child else 1.0)
        self.shoulder = 0.1 * rng.uniform(0.9, 1.12)  # middle to one shoulder joint
        spread = rng.normal(1.0, 0.04, 6)
        self.neck = 0.047 * spread[0]
        self.trunk = 0.285 * spread[1]  # pelvis to the base of the neck
        self.hip = 0.053 * rng.uniform(0.9, 1.12)  # middle to one hip joint
        self.upper_arm = 0.163 * spread[2]
        self.forearm = 0.142 * spread[3]
        self.hand = 0.085 * spread[4]
        self.thigh = 0.243 * legs * spread[5]
        self.shank = 0.24 * legs
        self.foot = 0.135 * rng.uniform(0.92, 1.08)
        self.girth = float(np.clip(rng.normal(1.02, 0.13), 0.8, 1.35))  # factor of every thickness
        self.belly = rng.uniform(0.85, 1.2)  # factor of the waist's


class Pose:
    """Angles of every joint, and how the camera sees the body: random, of one of `kinds`.

    arm: per side (flexion forwards, abduction, spread, twist inwards, elbow). leg: per side (flexion,
    abduction, spread, knee, ankle). trunk: (forwards, sideways, twist). neck: (forwards, sideways, turn).
    body: rotation that lays the upright body down or turns it over. yaw: 0 faces the viewer, 180 turns the
    back, 90 shows the person's right side. kinds: how often each kind comes. facing: share that looks into
    the camera.
    """

    def __init__(self, rng: np.random.Generator, kinds: dict[str, float], *, facing: float = HALF) -> None:
        self.kind = pick(rng, kinds)
        arm, leg, trunk = _POSES[self.kind](rng)
        self.neck_3 = np.clip(rng.normal(0, [12, 7, 22]), [-35, -25, -60], [35, 25, 60])
        if rng.random() < 0.5:  # the mirror image of every pose is as likely
            arm, leg, trunk = arm[::-1], leg[::-1], trunk * [1, -1, -1]
        self.arm_2x5 = np.clip(arm, [-55, -12, -30, -85, 0], [178, 165, 100, 85, 145])
        self.leg_2x5 = np.clip(leg, [-40, -18, -20, 0, -25], [125, 75, 60, 145, 50])
        self.trunk_3 = np.clip(trunk, [-30, -35, -45], [95, 35, 45])
        self.body_33, self.yaw = np.eye(3), _draw_yaw(rng, facing)
        self.lean = rng.normal(0, 5)
        self.camera_pitch = float(np.clip(rng.normal(6, 8), -12, 28))
        if self.kind == "lie":
            self.body_33 = [rot_x(90), rot_x(-90), rot_z(90)][int(rng.integers(3))]
            self.yaw = float((90 if rng.random() < 0.5 else -90) + rng.normal(0, 28))
            self.camera_pitch = rng.uniform(8, 55)
        elif self.kind == "handstand":
            self.body_33 = rot_z(180 + rng.normal(0, 14))
            self.neck_3[0] = rng.uniform(-40, 0)
        elif self.kind in ("jump", "dance", "lunge", "run"):
            self.body_33 = rot_x(rng.normal(0, 9))
            self.lean = rng.normal(0, 12)


def _draw_yaw(rng: np.random.Generator, facing: float) -> float:
    kind = rng.random()
    if kind < facing:
        return rng.normal(0, 45)
    if kind < facing + 0.56 * (1 - facing):
        return rng.normal(180, 42)
    return rng.uniform(-180, 180)


# --- poses: each gives angles of the arms, the legs and the trunk ---

_ARM_SD = np.array([9.0, 7.0, 8.0, 15.0, 10.0])
_ARMS = {  # flexion, abduction, spread, twist inwards, elbow
    "hang": (0, 9, 0, 10, 12),
    "hip": (-22, 42, 0, 62, 95),
    "cross": (22, 6, 0, 68, 100),
    "forward": (82, 5, 8, 0, 20),
    "carry": (18, 8, 0, 8, 92),
    "side": (0, 88, 0, 0, 12),
    "flex": (10, 86, 0, -80, 100),
    "raise": (168, 8, 0, 0, 14),
    "wide": (0, 140, 0, 0, 15),
    "wave": (25, 70, 0, -75, 95),
    "head": (115, 30, 15, 25, 125),
    "phone": (45, 20, 0, -25, 140),
    "point": (70, 25, 45, 0, 10),
    "back": (-38, 12, 0, 20, 25),
}


def _arms(rng: np.random.Generator, styles: str, *, alike: float = 0.5) -> np.ndarray:
    """Both arms (2, 5), of the styles named; `alike` is how often both do the same."""
    names = styles.split()
    first = names[int(rng.integers(len(names)))]
    second = first if rng.random() < alike else names[int(rng.integers(len(names)))]
    return np.array([_ARMS[first], _ARMS[second]]) + rng.normal(0, 1, (2, 5)) * _ARM_SD


def _legs(
    rng: np.random.Generator, right: tuple[float, ...], left: tuple[float, ...], sd: tuple[float, ...]
) -> np.ndarray:
    return np.array([right, left]) + rng.normal(0, 1, (2, 5)) * np.array(sd)


Angles = tuple[np.ndarray, np.ndarray, np.ndarray]


def _stand(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (0, 4, 3, 4, 0), (0, 4, 3, 4, 0), (6, 4, 6, 5, 5))
    if rng.random() < 0.4:  # the weight on one leg
        leg[0] += (18, 5, 8, 28, 8)
    arm = _arms(rng, "hang hang hang hip cross forward carry side flex raise wide wave head phone point back")
    return arm, leg, rng.normal(0, [7, 5, 9])


def _walk(rng: np.random.Generator) -> Angles:
    reach = rng.uniform(0.5, 1.3)
    leg = _legs(rng, (26 * reach, 1, 2, 12, 0), (-20 * reach, 1, 2, 24, 12), (5, 3, 4, 8, 6))
    arm = _arms(rng, "hang", alike=1.0)
    arm[:, 0] += np.array([-26, 26]) * reach
    arm[:, 4] += rng.uniform(0, 45)
    if rng.random() < 0.25:
        arm[int(rng.integers(2))] = _arms(rng, "phone carry wave point")[0]
    return arm, leg, rng.normal([5, 0, 0], [5, 4, 9])


def _run(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (62, 1, 2, 85, 0), (-18, 1, 2, 45, 25), (18, 4, 4, 25, 10))
    if rng.random() < 0.35:  # the foot lands ahead, the other one swings up behind
        leg = _legs(rng, (38, 1, 2, 12, -5), (-5, 1, 2, 105, 25), (10, 4, 4, 10, 10))
    arm = np.array([(-42, 12, 0, 15, 88), (38, 8, 0, 25, 98)]) + rng.normal(0, 1, (2, 5)) * (14, 6, 5, 12, 16)
    return arm, leg, rng.normal([14, 0, 0], [8, 4, 12])


def _sit(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (84, 4, 10, 82, 0), (84, 4, 10, 82, 0), (9, 4, 9, 18, 6))
    kind = rng.random()
    if kind < 0.2:  # one leg stretched
        leg[0, 3] = rng.uniform(5, 40)
    elif kind < 0.32:  # on the floor, knees out
        leg = _legs(rng, (88, 20, 42, 118, 0), (88, 20, 42, 118, 0), (8, 6, 9, 10, 6))
    arm = _arms(rng, "carry carry cross forward hang phone head raise wave point")
    return arm, leg, rng.normal([6, 0, 0], [13, 6, 10])


def _jump(rng: np.random.Generator) -> Angles:
    if rng.random() < 0.4:  # a star
        leg = _legs(rng, (6, 30, 4, 15, 25), (6, 30, 4, 15, 25), (14, 11, 6, 18, 10))
        arm = _arms(rng, "wide wide side raise", alike=0.8)
    else:
        leg = _legs(rng, (42, 8, 6, 78, 25), (22, 8, 6, 60, 25), (30, 9, 8, 32, 10))
        arm = _arms(rng, "raise wide forward side wave back point")
    return arm, leg, rng.normal([4, 0, 0], [15, 8, 14])


def _crouch(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (98, 8, 12, 118, -10), (98, 8, 12, 118, -10), (16, 5, 9, 16, 8))
    if rng.random() < 0.35:  # on one knee
        leg[1] = np.array([0, 4, 4, 95, 40]) + rng.normal(0, 6, 5)
        leg[0, 3] = rng.normal(92, 10)
    return _arms(rng, "carry forward hang cross point head"), leg, rng.normal([26, 0, 0], [14, 6, 10])


def _lunge(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (62, 6, 8, 60, 0), (-22, 6, 6, 22, 25), (18, 6, 8, 24, 8))
    if rng.random() < 0.45:  # a kick
        leg = _legs(rng, (80, 10, 8, 15, 25), (-6, 6, 4, 14, 0), (24, 14, 10, 16, 10))
    arm = _arms(rng, "side wide forward raise back point flex carry hang", alike=0.3)
    return arm, leg, rng.normal([6, 0, 0], [14, 9, 14])


def _bend(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (24, 6, 5, 20, 0), (24, 6, 5, 20, 0), (14, 5, 6, 16, 6))
    arm = _arms(rng, "hang forward carry back raise side")
    arm[:, 0] += rng.uniform(0, 60)
    return arm, leg, rng.normal([58, 0, 0], [18, 9, 14])


def _dance(rng: np.random.Generator) -> Angles:
    leg = rng.uniform((-25, -5, 0, 0, -10), (95, 50, 35, 105, 40), (2, 5))
    if rng.random() < 0.6:
        leg[1] = np.array([0, 5, 4, 10, 0]) + rng.normal(0, 6, 5)
    arm = rng.uniform((-40, 0, -10, -75, 0), (170, 120, 60, 75, 120), (2, 5))
    return arm, leg, rng.normal([5, 0, 0], [18, 15, 18])


def _handstand(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (8, 10, 4, 18, 25), (0, 10, 4, 18, 25), (24, 14, 6, 22, 12))
    return _arms(rng, "raise raise wide"), leg, rng.normal([-3, 0, 0], [11, 7, 9])


def _lie(rng: np.random.Generator) -> Angles:
    leg = _legs(rng, (18, 8, 6, 25, 20), (18, 8, 6, 25, 20), (22, 7, 8, 28, 12))
    return _arms(rng, "hang side wide raise head cross"), leg, rng.normal(0, [10, 8, 10])


_POSES: dict[str, Callable[[np.random.Generator], Angles]] = {
    "stand": _stand, "walk": _walk, "run": _run, "sit": _sit, "jump": _jump, "crouch": _crouch,
    "lunge": _lunge, "bend": _bend, "dance": _dance, "handstand": _handstand, "lie": _lie,
}  # fmt: skip


def _rotation(axis: int, deg: float) -> np.ndarray:
    """(3, 3) rotation about an axis, counter-clockwise as seen from its end."""
    turn, after, last = np.eye(3), (axis + 1) % 3, (axis + 2) % 3
    turn[after, after] = turn[last, last] = math.cos(math.radians(deg))
    turn[last, after] = math.sin(math.radians(deg))
    turn[after, last] = -turn[last, after]
    return turn


rot_x, rot_y, rot_z = (partial(_rotation, axis) for axis in range(3))
