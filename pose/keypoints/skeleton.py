"""Skeletons as data: joint names, limbs, groups, sigmas and what metrics need to know of the joints."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest

import numpy as np
from pydantic import ConfigDict, model_validator

from pose.io.errors import reading
from pose.io.schema import Frozen, parse


class Skeleton(Frozen):
    """The joints of one annotation standard in its own order; other fields refer to them by index.

    limbs: pairs of joints to draw. groups: named sets of joints, as tables print them. sigmas: annotators'
    spread of each joint (COCO's OKS), empty where the standard has none. scored: joints that means of PCK
    average over, all if empty. torso: the two joints whose distance is the reference length of PCK.
    """

    model_config = ConfigDict(strict=False)  # lists of a JSON file are tuples here

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    groups: dict[str, tuple[int, ...]]
    sigmas: tuple[float, ...] = ()
    scored: tuple[int, ...] = ()
    torso: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Skeleton:
        count = len(self.joints)
        if not count or len(set(self.joints)) < count:
            raise ValueError(f"found joints {self.joints}, expected a name of its own for each")
        used = [*self.scored, *(self.torso or ()), *sum(self.limbs, ()), *sum(self.groups.values(), ())]
        if out_of_range := sorted(set(used) - set(range(count))):
            raise ValueError(f"found joint {out_of_range[0]}, expected 0 to {count - 1}")
        if self.sigmas and (len(self.sigmas) != count or min(self.sigmas) <= 0):
            raise ValueError(f"found {len(self.sigmas)} sigmas, expected {count} numbers above 0, or none")
        return self

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint by name; ValueError for a name that the skeleton lacks."""
        return self.joints.index(joint)

    @cached_property
    def flip_index(self) -> np.ndarray:
        """(K,) int64: position k holds the joint that k becomes when the image is mirrored."""
        place = {joint: k for k, joint in enumerate(self.joints)}
        other_side = {"r": "l", "l": "r", "right": "left", "left": "right"}
        parts = [joint.partition("_") for joint in self.joints]
        mirrored = [f"{other_side.get(side, side)}{line}{rest}" for side, line, rest in parts]
        return np.array([place.get(joint, k) for k, joint in enumerate(mirrored)])

    @cached_property
    def scored_joints(self) -> np.ndarray:
        """Indices of the joints that means of PCK average over."""
        return np.array(self.scored or range(len(self)))


def different_joint(found: Sequence[object], expected: Sequence[str]) -> str:
    """The first joint that is another one, in words; empty if all are the same."""
    for number, (one, other) in enumerate(zip_longest(found, expected), start=1):
        if one != other:
            return f"joint {number} of {len(found)}: found {reprlib.repr(one)}, expected {other!r}"
    return ""


def read_skeleton(text: str | bytes, source: str) -> Skeleton:
    """A skeleton from JSON, as `model_dump_json` writes it; UserError naming the source for another."""
    with reading(source, "JSON"):
        values = json.loads(text)
    return parse(Skeleton, values, source)


MPII = Skeleton(
    name="mpii",
    joints=(
        "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 8), (8, 13), (13, 14), (14, 15),
    ),
    groups={
        "Head": (9,), "Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15),
        "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
    },
    scored=(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15),  # not pelvis and thorax, which LSP lacks
    torso=(13, 2),  # left shoulder, right hip
)  # fmt: skip

LSP = Skeleton(
    name="lsp",
    joints=(
        "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle",
        "r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist", "neck", "head_top",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11), (12, 13),
    ),
    groups={
        "Head": (13,), "Shoulder": (8, 9), "Elbow": (7, 10), "Wrist": (6, 11),
        "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
    },
    torso=(9, 2),
)  # fmt: skip

COCO = Skeleton(
    name="coco",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    groups={
        "Head": (0, 1, 2, 3, 4), "Shoulder": (5, 6), "Elbow": (7, 8), "Wrist": (9, 10),
        "Hip": (11, 12), "Knee": (13, 14), "Ankle": (15, 16),
    },
    torso=(5, 12),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
)  # fmt: skip

# Where each LSP joint sits in MPII order. LSP has no pelvis and no thorax; its neck is MPII's upper_neck.
LSP_TO_MPII = np.array([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9])
