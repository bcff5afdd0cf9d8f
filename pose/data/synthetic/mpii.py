"""Synthetic MPII: one or several people in an image, with an annotation that has the gaps of the real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.synthetic.files import draw_all, write_jpeg, write_mat
from pose.data.synthetic.person import Figure
from pose.data.synthetic.pose import EVERYDAY, pick
from pose.data.synthetic.scene import PersonTruth, Placement, Scene, bystander, corners, cover_for, draw_scene

MPII_SET = 2  # keeps this set's random stream apart from the others'


@dataclass(frozen=True)
class DrawnImage:
    """size: (w, h). people: those to be annotated fully. others: those to be annotated in part.

    role: train, validation, test (without joints), bare (nobody annotated).
    """

    name: str
    role: str
    size: tuple[int, int]
    people: tuple[PersonTruth, ...]
    others: tuple[PersonTruth, ...]

    @property
    def is_annotated(self) -> bool:
        return self.role in ("train", "validation")


def write_mpii(folder: Path, *, train: int, validation: int, seed: int, pool: Executor | None) -> None:
    """`images/`, `mpii_human_pose_v1_u12_1.mat` with the gaps of the real one, `mpii_annotations.json`.

    train, validation: annotated people; the validation people are all those of their images.
    """
    (folder / "images").mkdir()
    plan = plan_mpii(np.random.default_rng([seed, MPII_SET]), train=train, validation=validation)
    draw = partial(_draw_image, folder=folder / "images", seed=seed)
    images = draw_all("MPII", draw, list(enumerate(plan)), pool)
    rng = np.random.default_rng([seed, MPII_SET, 1, 1])
    write_mat(folder / "mpii_human_pose_v1_u12_1.mat", RELEASE=_release(images, rng))
    people = [
        person
        for number, image in enumerate(images, start=1)
        if image.is_annotated
        for person in _json_people(image, number)
    ]
    (folder / "mpii_annotations.json").write_text(json.dumps(people), encoding="utf-8")


def plan_mpii(rng: np.random.Generator, *, train: int, validation: int) -> list[tuple[str, int]]:
    """Role and number of people, 1 to 3, of each image; exactly `train` and `validation` people in all.

    One in forty more is a test image, one in eighty has nobody annotated.
    """
    roles: list[tuple[str, int]] = []
    for role, wanted in (("train", train), ("validation", validation)):
        while wanted:
            people = min(wanted, pick(rng, {1: 0.74, 2: 0.19, 3: 0.07}))
            roles.append((role, people))
            wanted -= people
    images = len(roles)
    roles += [("test", int(rng.integers(1, 3))) for _ in range(1 + images // 40)]
    roles += [("bare", 1) for _ in range(1 + images // 80)]
    return [roles[k] for k in rng.permutation(len(roles))]


def _draw_image(job: tuple[int, tuple[str, int]], *, folder: Path, seed: int) -> DrawnImage:
    index, (role, people) = job
    rng = np.random.default_rng([seed, MPII_SET, index])
    strangers = int(rng.random() < 0.16)
    for _ in range(4):  # drawn again if somebody is hardly seen, who would not have been annotated
        scene = _draw_group(rng, people, strangers)
        joints = [person.mpii for person in scene.people[strangers:]]
        if all(one.inside_K.sum() >= 10 and one.seen_K.sum() >= 5 for one in joints):
            break
    name = f"{(15601864 + 7919 * index) % 10**9:09d}.jpg"
    write_jpeg(folder / name, scene.image_HW3, rng)
    height, width = scene.image_HW3.shape[:2]
    return DrawnImage(name, role, (width, height), scene.people[strangers:], scene.people[:strangers])


def _draw_group(rng: np.random.Generator, people: int, strangers: int) -> Scene:
    """People side by side, before one another, the strangers behind; the image is cut around them."""
    stature = rng.uniform(95, 150)
    placements: list[Placement] = []
    across = 0.0
    for _ in range(people):
        size = stature * rng.uniform(0.85, 1.15) if people > 1 else stature
        figure = Figure(rng, EVERYDAY)
        low, _high = figure.extent()
        across += size * rng.uniform(0.3, 0.75)
        # All stand on about the same ground, whatever their pose.
        placements.append(Placement(figure, np.array([across, size * (low[1] + rng.normal(0, 0.06))]), size))
    placements = [placements[k] for k in rng.permutation(people)]
    ends = np.array([corners(placed) for placed in placements])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    before, after = rng.uniform(0.08, 0.5, 2) * stature, rng.uniform(0.08, 0.5, 2) * stature
    if rng.random() < 0.15:  # the image's border cuts somebody off
        edge = int(rng.integers(2))
        cut = -rng.uniform(0.05, 0.3) * stature
        if rng.random() < 0.5 or edge == 1:
            after[edge] = cut
        else:
            before[edge] = cut
    low, high = low - before, high + after
    width, height = (round(float(np.clip(side, 110, 330))) for side in high - low)
    offset = low + ((high - low) - (width, height)) / 2
    placements = [Placement(one.figure, one.pelvis_xy - offset, one.stature) for one in placements]
    behind = [bystander(rng, placements[0].pelvis_xy, stature) for _ in range(strangers)]
    covers = [cover_for(rng, placements[int(rng.integers(people))])] if rng.random() < 0.3 else []
    return draw_scene(rng, width=width, height=height, placements=[*behind, *placements], covers=covers)


# --- the `.mat` ---


def _release(images: Sequence[DrawnImage], rng: np.random.Generator) -> dict[str, Any]:
    annolist, single = [], np.empty((len(images), 1), dtype=object)
    for n, image in enumerate(images):
        fields = {"image": {"name": image.name}, "annorect": _rects(image, rng)}
        annolist.append(fields | {"frame_sec": _EMPTY, "vididx": _EMPTY})
        full = len(image.people) if image.is_annotated else 0
        single[n, 0] = np.arange(1, full + 1, dtype=np.uint8)[:, None] if full else _EMPTY
    training = np.array([[image.role != "test" for image in images]], dtype=np.uint8)
    return {
        "annolist": _structs(annolist),
        "img_train": training,
        "version": "drawn",
        "single_person": single,
    }


_EMPTY = np.zeros((0, 0))


def _structs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """A MATLAB structure array (1, N): every element has every field, empty where it was not given."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = np.empty((1, len(rows)), dtype=[(name, "O") for name in names])
    for n, row in enumerate(rows):
        out[0, n] = tuple(row.get(name, _EMPTY) for name in names)
    return out


def _rects(image: DrawnImage, rng: np.random.Generator) -> np.ndarray:
    """`annorect` of an image, with the gaps of the real file: all of it empty, or fields missing."""
    if image.role == "bare":
        return _EMPTY
    if image.role == "test":
        return _structs([_place(person) for person in image.people])
    style = pick(rng, {"number": 0.6, "text": 0.2, "empty": 0.2})
    rows = [_head_box(person) | _points(person, style) | _place(person) for person in image.people]
    for person in image.others:
        no_points = {"annopoints": _EMPTY}
        gaps: list[dict[str, Any]] = [
            {},  # a head and nothing else
            _points(person, style),  # joints, without a scale and a place
            no_points | _place(person),
            no_points | {"objpos": _place(person)["objpos"]},  # a place, without a scale
        ]
        rows.append(_head_box(person) | gaps[int(rng.integers(4))])
    return _structs(rows)


def _head_box(person: PersonTruth) -> dict[str, Any]:
    return dict(zip(("x1", "y1", "x2", "y2"), np.rint(person.head_box + 1).tolist(), strict=True))


def _place(person: PersonTruth) -> dict[str, Any]:
    x, y = np.rint(person.centre_xy + 1).tolist()
    return {"scale": round(person.stature / 200, 4), "objpos": {"x": x, "y": y}}


def _points(person: PersonTruth, style: str) -> dict[str, Any]:
    """`annopoints` with the joints that are in the image, one-based.

    style: `is_visible` as a number, as text, or left empty for the head's joints (as the real file does,
    where they count as visible).
    """
    rows = []
    for k in np.flatnonzero(person.mpii.inside_K):
        seen = int(person.mpii.seen_K[k])
        visible: Any = str(seen) if style == "text" else np.uint8(seen)
        if style == "empty" and seen and k in (8, 9):
            visible = _EMPTY
        x, y = np.round(person.mpii.xy_K2[k] + 1, 3).tolist()
        rows.append({"x": x, "y": y, "id": np.uint8(k), "is_visible": visible})
    return {"annopoints": {"point": _structs(rows)} if rows else _EMPTY}


# --- the `.json` ---


def _json_people(image: DrawnImage, number: int) -> list[dict[str, Any]]:
    joints = [_json_joints(person) for person in image.people]
    scales = [round(person.stature / 200, 4) for person in image.people]
    places = [np.rint(person.centre_xy + 1).tolist() for person in image.people]
    return [
        {
            "dataset": "MPI",
            "isValidation": float(image.role == "validation"),
            "img_paths": image.name,
            "img_width": float(image.size[0]),
            "img_height": float(image.size[1]),
            "objpos": places[k],
            "joint_self": joints[k],
            "scale_provided": scales[k],
            "joint_others": _others(joints, k),
            "scale_provided_other": _others(scales, k),
            "objpos_other": _others(places, k),
            "annolist_index": float(number),
            "people_index": float(k + 1),
            "numOtherPeople": float(len(image.people) - 1),
        }
        for k in range(len(image.people))
    ]


def _json_joints(person: PersonTruth) -> list[list[float]]:
    joints = person.mpii
    joint_K2 = np.where(joints.inside_K[:, None], np.round(joints.xy_K2 + 1, 3), 0)
    return np.column_stack([joint_K2, joints.seen_K]).tolist()


def _others(values: list[Any], k: int) -> Any:
    """The other people's values as MATLAB's JSON writer leaves them: a single one bare, none described."""
    rest = values[:k] + values[k + 1 :]
    if not rest:
        return {"_ArrayType_": "double", "_ArraySize_": [0, 0], "_ArrayData_": None}
    return rest[0] if len(rest) == 1 else rest
