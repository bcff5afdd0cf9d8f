"""Skeletons as data: joints, what a mirror exchanges, limbs, and what metrics need to know of the joints."""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from pose.io.errors import UserError, reading
from pose.io.schema import Frozen, parse, read_yaml

BUILT_IN = Path(__file__).with_name("skeletons")  # a YAML file each, which names joints by their names
MIDDLE, LEFT, RIGHT = "", "left", "right"
SIDES = {"l": LEFT, "left": LEFT, "r": RIGHT, "right": RIGHT}
WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])|[\W_]+")
MAX_JOINTS = 1000
DEFAULT_SIGMA = 0.07  # about the mean of COCO's, for skeletons without sigmas
# Joints that are seldom hidden or confused are grouped first, so that a person's mean tag is reliable early.
GROUPING_ORDER = ("nose", "eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle")


class Skeleton(Frozen):
    """The joints of one annotation standard in its own order; other fields refer to them by index.

    limbs: pairs of joints to draw. flips: pairs that a mirror exchanges; if not given, those whose names
    differ in left and right alone. groups: named sets of joints, as tables print them. sigmas: annotators'
    spread of each joint (COCO's OKS), empty where the standard has none. order: of the joints, by which
    grouping visits them. scored: joints that means of PCK average over, all if empty. reference: the two
    joints whose distance is the reference length of PCK; None for the longer side of the person's box.

    Values to build one from may name joints instead of counting them.
    """

    model_config = ConfigDict(strict=False)  # lists of a JSON file are tuples here

    name: str
    joints: Annotated[tuple[str, ...], Field(max_length=MAX_JOINTS)]
    limbs: tuple[tuple[int, int], ...] = ()
    flips: tuple[tuple[int, int], ...]
    groups: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    sigmas: tuple[float, ...] = ()
    order: tuple[int, ...]
    scored: tuple[int, ...] = ()
    reference: tuple[int, int] | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("joints"), list | tuple):
            return values  # which the types will name
        joints = [joint if isinstance(joint, str) else reprlib.repr(joint) for joint in values["joints"]]
        place = {joint: k for k, joint in enumerate(joints)}

        def index(key: str, value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [index(key, one) for one in value]
            if isinstance(value, str) and value not in place:
                raise ValueError(f"{key}: found joint {value!r}, expected one of the {len(joints)} in joints")
            return place.get(value, value) if isinstance(value, str) else value

        values = dict(values)
        for key in ("limbs", "flips", "order", "scored", "reference"):
            if values.get(key) is not None:
                values[key] = index(key, values[key])
        if isinstance(groups := values.get("groups"), dict):
            values["groups"] = {name: index(f"groups.{name}", group) for name, group in groups.items()}
        if values.get("flips") is None:
            values["flips"] = inferred_flips(joints)
        if not values.get("order"):
            values["order"] = _grouping_order(joints)
        return values

    @model_validator(mode="after")
    def _is_consistent(self) -> Skeleton:
        count = len(self.joints)
        if not count or len(set(self.joints)) < count:
            raise ValueError(f"found joints {reprlib.repr(self.joints)}, expected a name of its own for each")
        pairs = [*self.limbs, *self.flips, *([self.reference] if self.reference else [])]
        used = chain(self.scored, self.order, *pairs, *self.groups.values())
        if out_of_range := sorted(set(used) - set(range(count))):
            raise ValueError(f"found joint {out_of_range[0]}, expected 0 to {count - 1}")
        if same := [pair for pair in pairs if pair[0] == pair[1]]:
            raise ValueError(f"found {self.joints[same[0][0]]!r} twice in a pair, expected two joints")
        flipped = [*chain(*self.flips)]
        if twice := [joint for joint in flipped if flipped.count(joint) > 1]:
            raise ValueError(f"flips: found {self.joints[twice[0]]!r} in two pairs, expected one at most")
        if len(self.order) != count or len(set(self.order)) != count:
            raise ValueError(f"order: found {len(set(self.order))} joints, expected each of the {count} once")
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
        index = np.arange(len(self))
        for one, other in self.flips:
            index[[one, other]] = other, one
        return index

    @cached_property
    def scored_joints(self) -> np.ndarray:
        """Indices of the joints that means of PCK average over."""
        return np.array(self.scored or range(len(self)))

    @cached_property
    def oks_sigmas(self) -> np.ndarray:
        """(K,) sigmas of OKS, DEFAULT_SIGMA for each joint where the standard has none."""
        return np.array(self.sigmas or [DEFAULT_SIGMA] * len(self))


def side_and_part(joint: str) -> tuple[str, str]:
    """`r_ankle`, `Right Ankle`, `ankle-right` and `rightAnkle` are (RIGHT, "ankle"); (MIDDLE, name) else.

    Between other words only `left` and `right` are sides, and only one of them: `front_left_paw`.
    """
    words = [word.lower() for word in WORD_ENDS.split(joint) if word]
    inside = [k for k, word in enumerate(words) if word in (LEFT, RIGHT)]
    for place in (0, -1, *(inside if len(inside) == 1 else ())):
        if len(words) > 1 and words[place] in SIDES:
            side = SIDES[words.pop(place)]
            return side, "_".join(words)
    return MIDDLE, "_".join(words)


def inferred_flips(joints: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices of joints whose names differ in left and right alone."""
    place = {side_and_part(joint): k for k, joint in enumerate(joints)}
    pairs = ((k, place.get((RIGHT, part))) for (side, part), k in place.items() if side == LEFT)
    return [(left, right) for left, right in pairs if right is not None]


def joint_places(own: Sequence[str], other: Sequence[str]) -> list[int]:
    """For each name of a joint its place among others, -1 where it is none of them.

    They are the same letter by letter, or else as `side_and_part` reads them, where only one is read so: `A`
    and `A'` are two.
    """
    exact = {joint: k for k, joint in enumerate(other)}
    read, own_read = [side_and_part(joint) for joint in other], Counter(map(side_and_part, own))
    place = {key: k for k, key in enumerate(read) if read.count(key) == 1}

    def find(joint: str) -> int:
        key = side_and_part(joint)
        return exact.get(joint, place.get(key, -1) if own_read[key] == 1 else -1)

    return [find(joint) for joint in own]


def same_joints(own: Skeleton, other: Skeleton) -> np.ndarray:
    """(K,) int64: for each joint of `own` the index of the joint of its name in `other`, -1 if it has none.

    Names are compared as in `joint_places`.
    """
    return np.array(joint_places(own.joints, other.joints))


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


def built_in_with(joints: Sequence[str]) -> Skeleton | None:
    """The skeleton that comes with the package and has these joints in this order; None if none has."""
    return next((one for one in map(built_in, _built_in_names()) if one.joints == tuple(joints)), None)


def _built_in_names() -> list[str]:
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


@cache
def built_in(name: str) -> Skeleton:
    """A skeleton that comes with the package; UserError, listing all of them, for another name."""
    names = _built_in_names()
    if name not in names:
        raise UserError(f"skeleton: found {name!r}, expected one of {', '.join(names)}, or a YAML file")
    return parse(Skeleton, read_yaml(BUILT_IN / f"{name}.yaml"), str(BUILT_IN / f"{name}.yaml"))


def _grouping_order(joints: Sequence[str]) -> list[int]:
    """Indices of these joints in GROUPING_ORDER, others last."""

    def rank(joint: int) -> int:
        _, part = side_and_part(joints[joint])
        ranks = (rank for rank, end in enumerate(GROUPING_ORDER) if part.endswith(end))
        return next(ranks, len(GROUPING_ORDER))

    return sorted(range(len(joints)), key=rank)
