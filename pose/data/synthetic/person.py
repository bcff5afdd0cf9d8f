"""People in space: the solids that a build, a pose and an outfit make, and where the joints are.

Frames. body: x to the person's left, y up, z to the person's front. camera: x to the right, y up, z towards
the viewer, pelvis at the origin. The unit of length is the person's stature. Angles are degrees. Side 0 is
the right one, side 1 the left one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pose.data.synthetic.clothes import Outfit
from pose.data.synthetic.paint import Paint
from pose.data.synthetic.pose import EVERYDAY, HALF, Build, Pose, rot_x, rot_y, rot_z
from pose.keypoints.skeleton import built_in

COCO, MPII = built_in("coco"), built_in("mpii")

SIDES = ((0, "r", -1.0), (1, "l", 1.0))  # row in the pose, letter in joint names, sign of body x

# So far, in statures, the person's own body may lie in front of a joint that still counts as seen.
DEPTH_TOLERANCE = {
    "ankle": 0.045, "knee": 0.055, "hip": 0.085, "pelvis": 0.11, "thorax": 0.095, "upper_neck": 0.07,
    "head_top": 0.05, "wrist": 0.035, "elbow": 0.04, "shoulder": 0.06, "nose": 0.02, "eye": 0.02, "ear": 0.02,
}  # fmt: skip

Vector = np.ndarray  # (3,)
Matrix = np.ndarray  # (3, 3)


@dataclass(frozen=True)
class Part:
    """A solid: the points centre + axes @ q with |q| = 1, camera frame.

    Of a tube, |(q_x, q_z)| = 1 + taper * q_y and |q_y| <= 1. paint: (3, N) surface points q -> (N, 3) RGB, 0
    to 255. keep: which surface points exist at all, where not all do.
    """

    centre_3: Vector
    axes_33: Matrix
    paint: Paint
    tube: bool = False
    taper: float = 0.0
    keep: Callable[[np.ndarray], np.ndarray] | None = None


def stack_parts(parts: Sequence[Part]) -> tuple[np.ndarray, ...]:
    """centre_P3, axes_P33, tube_P and taper_P of parts."""
    fields = ("centre_3", "axes_33", "tube", "taper")
    return tuple(np.array([getattr(part, field) for part in parts]) for field in fields)


def part_reach(axes_P33: np.ndarray, tube_P: np.ndarray, taper_P: np.ndarray) -> np.ndarray:
    """Half extents (P, 3) of parts along the frame's axes."""
    square_P33 = axes_P33**2
    around_P3 = np.sqrt(square_P33[:, :, 0] + square_P33[:, :, 2]) * (1 + np.abs(taper_P))[:, None]
    return np.where(tube_P[:, None], around_P3 + np.abs(axes_P33[:, :, 1]), np.sqrt(square_P33.sum(axis=2)))


@dataclass(frozen=True)
class FigureJoints:
    """Joints of a skeleton in the camera frame, in statures, and DEPTH_TOLERANCE of each."""

    xyz_K3: np.ndarray
    tolerance_K: np.ndarray


class Figure:
    """A person in space, not yet in an image: camera frame, in statures. Build, clothes and view are random.

    kinds: how often each kind of pose comes. facing: see `Pose`. head_3, head_axes_33: centre and half axes
    of the head.
    """

    def __init__(
        self, rng: np.random.Generator, kinds: dict[str, float] = EVERYDAY, *, facing: float = HALF
    ) -> None:
        build, outfit = Build(rng), Outfit(rng)
        for _ in range(4):  # arms that run through the trunk are drawn again
            pose = Pose(rng, kinds, facing=facing)
            bones = Bones(build, pose)
            if not bones.arm_in_trunk(build):
                break
        self.kind = pose.kind
        self.parts = _trunk(build, outfit, bones) + _head(build, outfit, bones)
        for _, letter, _ in SIDES:
            self.parts += _arm(build, outfit, bones, letter) + _leg(build, outfit, bones, letter)
        joint = bones.joint | _face_points(build, bones)
        # COCO's names are long where MPII's are short: left_wrist, l_wrist.
        coco_names = [name if name in joint else name[0] + name[name.index("_") :] for name in COCO.joints]
        self.mpii = _joints(joint, list(MPII.joints), build)
        self.coco = _joints(joint, coco_names, build)
        self.head_3, self.head_axes_33 = joint["head"], bones.turn["head"] * _head_half(build)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest (x, y) that any part reaches, camera frame."""
        centre_P3, axes_P33, tube_P, taper_P = stack_parts(self.parts)
        reach_P3 = part_reach(axes_P33, tube_P, taper_P)
        return (centre_P3 - reach_P3).min(axis=0)[:2], (centre_P3 + reach_P3).max(axis=0)[:2]


def _joints(joint: dict[str, Vector], names: list[str], build: Build) -> FigureJoints:
    tolerances = [DEPTH_TOLERANCE.get(name) or DEPTH_TOLERANCE[name.partition("_")[2]] for name in names]
    return FigureJoints(np.array([joint[name] for name in names]), np.array(tolerances) * build.girth)


# --- bones ---


class Bones:
    """Where every bone is, from the pelvis outwards: camera frame.

    joint: by MPII name, and `waist`, `head` (its centre). turn: body -> camera of each bone, by name: hips,
    waist, chest, neck, head, and with r_ or l_ before: upper_arm, forearm, thigh, shank, foot.
    """

    def __init__(self, build: Build, pose: Pose) -> None:
        forwards, sideways, twist = pose.trunk_3
        # Half of it at the hips, half at the waist.
        half_bend = rot_x(forwards / 2) @ rot_z(sideways / 2) @ rot_y(twist / 2)
        hips = rot_x(pose.camera_pitch) @ rot_z(pose.lean) @ rot_y(pose.yaw) @ pose.body_33
        waist = hips @ half_bend
        chest = waist @ half_bend
        nod, tilt, look = pose.neck_3
        neck = chest @ rot_x(0.4 * nod + 6) @ rot_z(0.4 * tilt)
        head = chest @ rot_x(nod) @ rot_z(tilt) @ rot_y(look)
        turn = {"hips": hips, "waist": waist, "chest": chest, "neck": neck, "head": head}

        joint = {"pelvis": np.zeros(3)}
        joint["waist"] = waist @ (0, 0.4 * build.trunk, 0)
        joint["thorax"] = joint["waist"] + chest @ (0, 0.6 * build.trunk, 0)
        joint["upper_neck"] = joint["thorax"] + neck @ (0, build.neck, 0)
        joint["head"] = joint["upper_neck"] + head @ (0, 0.4 * build.head, 0.06 * build.head)
        joint["head_top"] = joint["head"] + head @ (0, 0.53 * build.head, 0)
        for side, letter, sign in SIDES:
            flexion, abduction, spread, inwards, elbow = pose.arm_2x5[side]
            lift = 0.03 * max(0.0, math.sin(math.radians(abduction)))  # the shoulder rises with the arm
            upper_arm = chest @ rot_y(sign * spread) @ rot_z(sign * abduction) @ rot_x(-flexion)
            upper_arm = upper_arm @ rot_y(-sign * inwards)
            forearm = upper_arm @ rot_x(-elbow)
            joint[f"{letter}_shoulder"] = joint["thorax"] + chest @ (sign * build.shoulder, lift - 0.026, 0)
            joint[f"{letter}_elbow"] = joint[f"{letter}_shoulder"] - build.upper_arm * upper_arm[:, 1]
            joint[f"{letter}_wrist"] = joint[f"{letter}_elbow"] - build.forearm * forearm[:, 1]

            flexion, abduction, spread, knee, ankle = pose.leg_2x5[side]
            thigh = hips @ rot_y(sign * spread) @ rot_z(sign * abduction) @ rot_x(-flexion)
            shank = thigh @ rot_x(knee)
            joint[f"{letter}_hip"] = hips @ (sign * build.hip, -0.016, 0)
            joint[f"{letter}_knee"] = joint[f"{letter}_hip"] - build.thigh * thigh[:, 1]
            joint[f"{letter}_ankle"] = joint[f"{letter}_knee"] - build.shank * shank[:, 1]
            turn |= {f"{letter}_upper_arm": upper_arm, f"{letter}_forearm": forearm}
            turn |= {f"{letter}_thigh": thigh, f"{letter}_shank": shank}
            turn[f"{letter}_foot"] = shank @ rot_x(ankle)
        self.joint, self.turn = joint, turn

    def arm_in_trunk(self, build: Build) -> bool:
        """Whether an elbow or a wrist is inside the trunk."""
        wide, deep = 0.62 * build.shoulder + 0.03 * build.girth + 0.012, 0.055 * build.girth + 0.012
        for name in ("r_elbow", "r_wrist", "l_elbow", "l_wrist"):
            x, y, z = self.turn["chest"].T @ (self.joint[name] - self.joint["waist"])
            if (x / wide) ** 2 + (z / deep) ** 2 < 1 and -0.4 * build.trunk < y < 0.6 * build.trunk:
                return True
        return False


# --- flesh and cloth ---


def _solid(frame: Matrix, centre: Vector, half: tuple[float, float, float] | Vector, paint: Paint) -> Part:
    return Part(centre, frame * np.asarray(half), paint)


def _tube(
    frame: Matrix,
    ends: tuple[Vector, Vector],
    first: tuple[float, float],
    last: tuple[float, float],
    paint: Paint,
) -> Part:
    """Between two ends, q_y = -1 and 1, with half widths (x, z) at both; the taper of x serves both."""
    start, end = ends
    wide, deep = (first[0] + last[0]) / 2, (first[1] + last[1]) / 2
    axes = np.column_stack([frame[:, 0] * wide, (end - start) / 2, frame[:, 2] * deep])
    return Part((start + end) / 2, axes, paint, tube=True, taper=(last[0] - first[0]) / (first[0] + last[0]))


def _trunk(build: Build, outfit: Outfit, bones: Bones) -> list[Part]:
    g = build.girth
    hips, chest, neck = bones.turn["hips"], bones.turn["chest"], bones.turn["neck"]
    pelvis, waist, thorax = bones.joint["pelvis"], bones.joint["waist"], bones.joint["thorax"]
    top = thorax - 0.04 * chest[:, 1]
    throat = thorax - 0.02 * chest[:, 1], bones.joint["upper_neck"] + 0.02 * bones.turn["head"][:, 1]
    hip_half = (0.95 * build.hip + 0.034 * g, 0.058, 0.058 * g)
    hip_end = (0.96 * hip_half[0], 0.98 * hip_half[2])
    waist_half = (0.068 * g * build.belly, 0.05 * g * build.belly)
    chest_half = (0.62 * build.shoulder + 0.03 * g, 0.055 * g)
    parts = [
        _solid(hips, pelvis + 0.012 * hips[:, 1], hip_half, outfit.hips),
        _tube(bones.turn["waist"], (pelvis, waist), hip_end, waist_half, outfit.waist),
        _solid(chest, waist, (waist_half[0], 0.045, waist_half[1]), outfit.belly),
        _tube(chest, (waist, top), waist_half, chest_half, outfit.chest),
        _solid(chest, top, (1.04 * chest_half[0], 0.052, 1.04 * chest_half[1]), outfit.yoke),
        _tube(neck, throat, (0.036 * g, 0.036 * g), (0.03 * g, 0.032 * g), outfit.neck),
    ]
    if outfit.backpack is not None:
        behind = (waist + thorax) / 2 - chest @ (0, 0.005, chest_half[1] + 0.026)
        parts.append(_solid(chest, behind, (0.88 * chest_half[0], 0.115, 0.052), outfit.backpack))
    if outfit.hood is not None:
        behind = thorax - 0.9 * chest_half[1] * chest[:, 2]
        parts.append(_solid(chest, behind, (0.062, 0.036, 0.03), outfit.hood))
    if outfit.skirt is not None:
        left, right = bones.joint["l_knee"], bones.joint["r_knee"]
        hem = pelvis + ((left + right) / 2 - pelvis) * outfit.skirt_length
        stride = 0.5 * float(np.linalg.norm(left - right)) * outfit.skirt_length
        wide = max(1.25 * hip_half[0], stride + 0.05 * g)
        first, last = (1.03 * hip_half[0], 1.03 * hip_half[2]), (wide, max(1.3 * hip_half[2], 0.6 * wide))
        ends = (pelvis + 0.035 * hips[:, 1], hem)
        parts.append(_tube(_frame_along(hem - pelvis, hips), ends, first, last, outfit.skirt))
    return parts


def _frame_along(axis: Vector, near: Matrix) -> Matrix:
    """A rotation whose y runs along `axis` and whose x is as near to that of `near` as can be."""
    y = axis / max(float(np.linalg.norm(axis)), 1e-9)
    x = near[:, 0] - y * (near[:, 0] @ y)
    x = x / max(float(np.linalg.norm(x)), 1e-9)
    return np.column_stack([x, y, np.cross(x, y)])


def _head_half(build: Build) -> Vector:
    return np.array([0.375, 0.5, 0.43]) * build.head


def _head(build: Build, outfit: Outfit, bones: Bones) -> list[Part]:
    frame, centre, half = bones.turn["head"], bones.joint["head"], _head_half(build)
    nose = centre + frame @ (half * (0, -0.1, 0.98))
    parts = [
        _solid(frame, centre, half, outfit.face),
        _solid(frame, nose, build.head * np.array([0.087, 0.133, 0.107]), outfit.nose),
    ]
    if outfit.ears:
        for _, _, sign in SIDES:
            ear = centre + frame @ (sign * half[0], -0.02 * build.head, -0.02 * build.head)
            parts.append(_solid(frame, ear, build.head * np.array([0.04, 0.107, 0.067]), outfit.nose))
    for extra in outfit.head_extras:
        axes = frame @ rot_x(extra.tilt) * (np.array(extra.half) * half)
        parts.append(Part(centre + frame @ (half * extra.centre), axes, extra.paint, keep=extra.keep))
    return parts


def _face_points(build: Build, bones: Bones) -> dict[str, Vector]:
    """COCO's points of the face, by COCO's names."""
    frame, centre, half = bones.turn["head"], bones.joint["head"], _head_half(build)
    points = {"nose": centre + frame @ (half * (0, -0.12, 1.12))}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        points[f"{side}_eye"] = centre + frame @ (half * (0.36 * sign, 0.1, 0.9))
        points[f"{side}_ear"] = centre + frame @ (half * (sign, 0.0, -0.1))
    return points


def _arm(build: Build, outfit: Outfit, bones: Bones, letter: str) -> list[Part]:
    g = build.girth
    upper_arm, forearm = bones.turn[f"{letter}_upper_arm"], bones.turn[f"{letter}_forearm"]
    shoulder, elbow, wrist = (bones.joint[f"{letter}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    upper, lower = (shoulder, elbow), (elbow, wrist)
    palm = wrist - 0.42 * build.hand * forearm[:, 1]
    return [
        _solid(upper_arm, shoulder, (0.037 * g, 0.037 * g, 0.037 * g), outfit.upper_arm_start),
        _tube(upper_arm, upper, (0.034 * g, 0.036 * g), (0.027 * g, 0.028 * g), outfit.upper_arm),
        _solid(forearm, elbow, (0.027 * g, 0.027 * g, 0.028 * g), outfit.elbow),
        _tube(forearm, lower, (0.029 * g, 0.028 * g), (0.019 * g, 0.018 * g), outfit.forearm),
        _solid(forearm, palm, (0.017 * g, 0.52 * build.hand, 0.024 * g), outfit.hand),
    ]


def _leg(build: Build, outfit: Outfit, bones: Bones, letter: str) -> list[Part]:
    g = build.girth
    thigh, shank, foot = (bones.turn[f"{letter}_{name}"] for name in ("thigh", "shank", "foot"))
    hip, knee, ankle = (bones.joint[f"{letter}_{name}"] for name in ("hip", "knee", "ankle"))
    upper, lower = (hip, knee), (knee - 0.004 * shank[:, 2], ankle)
    sole = ankle + foot @ (0, -0.02, 0.27 * build.foot)
    return [
        _solid(thigh, hip, (0.05 * g, 0.05 * g, 0.053 * g), outfit.thigh_start),
        _tube(thigh, upper, (0.052 * g, 0.054 * g), (0.037 * g, 0.038 * g), outfit.thigh),
        _solid(shank, knee, (0.037 * g, 0.038 * g, 0.04 * g), outfit.knee),
        _tube(shank, lower, (0.039 * g, 0.042 * g), (0.024 * g, 0.026 * g), outfit.shank),
        _solid(foot, sole, (0.029 * g, 0.026, 0.56 * build.foot), outfit.shoe),
        _solid(foot, ankle, (0.026 * g, 0.034, 0.03 * g), outfit.heel),
    ]
