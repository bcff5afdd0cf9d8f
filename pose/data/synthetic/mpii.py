"""The MPII-style set: one or several people in a picture, with an annotation that has the gaps of the real one."""

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
from pose.data.synthetic.person import draw_figure
from pose.data.synthetic.pose import EVERYDAY, pick
from pose.data.synthetic.scene import Drawn, Placement, Scene, bystander, corners, cover_for, draw_scene

MPII_SET = 2  # keeps this set's random stream apart from the others'


@dataclass(frozen=True)
class MpiiPicture:
    """What one picture of the MPII-style set is to hold.

    Role: train, validation, test (no joints given) or bare (nobody annotated).
    """

    index: int
    role: str
    people: int

    @property
    def name(self) -> str:
        return f"{(15601864 + 7919 * self.index) % 10**9:09d}.jpg"


@dataclass(frozen=True)
class MpiiAnnotation:
    """size: (w, h). people: the fully annotated ones. others: people drawn without full annotation."""

    size: tuple[int, int]
    people: tuple[Drawn, ...]
    others: tuple[Drawn, ...]


def write_mpii(folder: Path, *, train: int, validation: int, seed: int, pool: Executor | None) -> None:
    """`images/`, `mpii_human_pose_v1_u12_1.mat` with the gaps of the real one, and the peers' `mpii_annotations.json`.

    train, validation: annotated people; the validation people are those of whole pictures.
    """
    (folder / "images").mkdir()
    plan = plan_mpii(np.random.default_rng([seed, MPII_SET]), train=train, validation=validation)
    annotations = draw_all(
        "MPII", partial(_draw_mpii_picture, folder=str(folder / "images"), seed=seed), plan, pool
    )
    _write_annolist(
        folder / "mpii_human_pose_v1_u12_1.mat",
        plan,
        annotations,
        np.random.default_rng([seed, MPII_SET, 1, 1]),
    )
    _write_mpii_json(folder / "mpii_annotations.json", plan, annotations)


def plan_mpii(rng: np.random.Generator, *, train: int, validation: int) -> list[MpiiPicture]:
    """Pictures of 1 to 3 people, exactly `train` and `validation` people in all; one in forty more is a test picture, one in
    eighty has nobody annotated."""
    roles: list[tuple[str, int]] = []
    for role, wanted in (("train", train), ("validation", validation)):
        while wanted:
            people = min(wanted, pick(rng, {1: 0.74, 2: 0.19, 3: 0.07}))
            roles.append((role, people))
            wanted -= people
    pictures = len(roles)
    roles += [("test", int(rng.integers(1, 3))) for _ in range(1 + pictures // 40)]
    roles += [("bare", 1) for _ in range(1 + pictures // 80)]
    return [MpiiPicture(n, *roles[k]) for n, k in enumerate(rng.permutation(len(roles)))]


def _draw_mpii_picture(picture: MpiiPicture, *, folder: str, seed: int) -> MpiiAnnotation:
    rng = np.random.default_rng([seed, MPII_SET, picture.index])
    strangers = int(rng.random() < 0.16)
    for _ in range(
        4
    ):  # a person of whom next to nothing is seen would not have been annotated: draw another scene
        scene = _draw_group(rng, picture.people, strangers)
        if all(_is_recognisable(person) for person in scene.people[strangers:]):
            break
    write_jpeg(f"{folder}/{picture.name}", scene.image_HW3, rng)
    height, width = scene.image_HW3.shape[:2]
    return MpiiAnnotation((width, height), scene.people[strangers:], scene.people[:strangers])


def _is_recognisable(person: Drawn) -> bool:
    seen_K = person.mpii_inside_16 & ~person.mpii_hidden_16
    return bool(person.mpii_inside_16.sum() >= 10 and seen_K.sum() >= 5)


def _draw_group(rng: np.random.Generator, people: int, strangers: int) -> Scene:
    """People side by side, before one another, the strangers behind; the picture is cut around them."""
    stature = float(rng.uniform(95, 150))
    placements: list[Placement] = []
    across = 0.0
    for _ in range(people):
        size = stature * float(rng.uniform(0.85, 1.15)) if people > 1 else stature
        figure = draw_figure(rng, EVERYDAY)
        low, _high = figure.extent()
        across += size * float(rng.uniform(0.3, 0.75))
        # All stand on about the same ground, whatever their pose.
        placements.append(Placement(figure, np.array([across, size * (low[1] + rng.normal(0, 0.06))]), size))
    placements = [placements[k] for k in rng.permutation(people)]
    ends = np.array([corners(placed) for placed in placements])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    before, after = rng.uniform(0.08, 0.5, 2) * stature, rng.uniform(0.08, 0.5, 2) * stature
    if rng.random() < 0.15:  # the picture's border cuts somebody off
        edge = int(rng.integers(2))
        cut = -rng.uniform(0.05, 0.3) * stature
        if rng.random() < 0.5 or edge == 1:
            after[edge] = cut
        else:
            before[edge] = cut
    low, high = low - before, high + after
    width, height = (round(float(np.clip(side, 110, 330))) for side in high - low)
    offset = low + ((high - low) - (width, height)) / 2
    placements = [
        Placement(placed.figure, placed.pelvis_xy - offset, placed.stature) for placed in placements
    ]
    behind = [bystander(rng, placements[0].pelvis_xy, stature) for _ in range(strangers)]
    covers = [cover_for(rng, placements[int(rng.integers(people))])] if rng.random() < 0.3 else []
    return draw_scene(rng, width=width, height=height, placements=[*behind, *placements], covers=covers)


def _write_annolist(
    path: Path, plan: Sequence[MpiiPicture], annotations: Sequence[MpiiAnnotation], rng: np.random.Generator
) -> None:
    annolist = np.empty(
        (1, len(plan)), dtype=[("image", "O"), ("annorect", "O"), ("frame_sec", "O"), ("vididx", "O")]
    )
    single = np.empty((len(plan), 1), dtype=object)
    for n, (picture, annotation) in enumerate(zip(plan, annotations, strict=True)):
        rects = _mpii_rects(picture, annotation, rng)
        annolist[0, n] = (_struct(name=picture.name), rects, _EMPTY, _EMPTY)
        full = len(annotation.people) if picture.role in ("train", "validation") else 0
        single[n, 0] = np.arange(1, full + 1, dtype=np.uint8)[:, None] if full else _EMPTY
    training = np.array([[picture.role != "test" for picture in plan]], dtype=np.uint8)
    release = _struct(annolist=annolist, img_train=training, version="drawn", single_person=single)
    write_mat(path, RELEASE=release)


_EMPTY = np.zeros((0, 0))


def _struct(**fields: Any) -> np.ndarray:
    """A MATLAB structure of one element, as scipy.io writes it."""
    out = np.empty((1, 1), dtype=[(name, "O") for name in fields])
    out[0, 0] = tuple(fields.values())
    return out


def _structs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """A MATLAB structure array (1, N).

    As there, every element has every field, empty where it was not given.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = np.empty((1, len(rows)), dtype=[(name, "O") for name in names])
    for n, row in enumerate(rows):
        out[0, n] = tuple(row.get(name, _EMPTY) for name in names)
    return out


def _mpii_rects(picture: MpiiPicture, annotation: MpiiAnnotation, rng: np.random.Generator) -> np.ndarray:
    """`annorect` of a picture, with the gaps of the real file: all of it empty, or fields missing."""
    if picture.role == "bare":
        return _EMPTY
    if picture.role == "test":
        return _structs([_place(person) for person in annotation.people])
    style = pick(rng, {"number": 0.6, "text": 0.2, "empty": 0.2})
    rows = [
        _head_box(person) | {"annopoints": _points(person, style)} | _place(person)
        for person in annotation.people
    ]
    for person in annotation.others:
        gap = int(rng.integers(4))
        if gap == 0:  # a head and nothing else
            rows.append(_head_box(person))
        elif gap == 1:  # joints, without a scale and a place
            rows.append(_head_box(person) | {"annopoints": _points(person, style)})
        elif gap == 2:  # no joints
            rows.append(_head_box(person) | {"annopoints": _EMPTY} | _place(person))
        else:  # a place, without a scale
            rows.append(_head_box(person) | {"annopoints": _EMPTY, "objpos": _place(person)["objpos"]})
    return _structs(rows)


def _head_box(person: Drawn) -> dict[str, Any]:
    return {
        name: float(np.rint(value + 1))
        for name, value in zip(("x1", "y1", "x2", "y2"), person.head_box, strict=True)
    }


def _place(person: Drawn) -> dict[str, Any]:
    x, y = np.rint(person.centre_2 + 1)
    return {"scale": round(person.stature / 200, 4), "objpos": _struct(x=float(x), y=float(y))}


def _points(person: Drawn, style: str) -> np.ndarray:
    """`annopoints` with the joints that are in the picture, one-based.

    Style: `is_visible` as a number, as text, or left empty for the head's joints (as the real file does,
    where they count as visible).
    """
    rows = []
    for k in np.flatnonzero(person.mpii_inside_16):
        seen = int(not person.mpii_hidden_16[k])
        visible: Any = {
            "number": np.uint8(seen),
            "text": str(seen),
            "empty": _EMPTY if seen and k in (8, 9) else np.uint8(seen),
        }[style]
        x, y = np.round(person.mpii_16x2[k] + 1, 3)
        rows.append({"x": float(x), "y": float(y), "id": np.uint8(k), "is_visible": visible})
    return _struct(point=_structs(rows)) if rows else _EMPTY


def _write_mpii_json(path: Path, plan: Sequence[MpiiPicture], annotations: Sequence[MpiiAnnotation]) -> None:
    rows = []
    for n, (picture, annotation) in enumerate(zip(plan, annotations, strict=True)):
        if picture.role not in ("train", "validation"):
            continue
        joints = [_json_joints(person) for person in annotation.people]
        scales = [round(person.stature / 200, 4) for person in annotation.people]
        places = [np.rint(person.centre_2 + 1).tolist() for person in annotation.people]
        for k in range(len(annotation.people)):
            rows.append(
                {
                    "dataset": "MPI",
                    "isValidation": float(picture.role == "validation"),
                    "img_paths": picture.name,
                    "img_width": float(annotation.size[0]),
                    "img_height": float(annotation.size[1]),
                    "objpos": places[k],
                    "joint_self": joints[k],
                    "scale_provided": scales[k],
                    "joint_others": _others(joints, k),
                    "scale_provided_other": _others(scales, k),
                    "objpos_other": _others(places, k),
                    "annolist_index": float(n + 1),
                    "people_index": float(k + 1),
                    "numOtherPeople": float(len(annotation.people) - 1),
                }
            )
    path.write_text(json.dumps(rows), encoding="utf-8")


def _json_joints(person: Drawn) -> list[list[float]]:
    joint_K2 = np.where(person.mpii_inside_16[:, None], np.round(person.mpii_16x2 + 1, 3), 0)
    seen_K = person.mpii_inside_16 & ~person.mpii_hidden_16
    return np.column_stack([joint_K2, seen_K]).tolist()


def _others(values: list[Any], k: int) -> Any:
    """The other people's values as MATLAB's JSON writer leaves them.

    The only one bare, none as a described empty array.
    """
    rest = values[:k] + values[k + 1 :]
    if not rest:
        return {"_ArrayType_": "double", "_ArraySize_": [0, 0], "_ArrayData_": None}
    return rest[0] if len(rest) == 1 else rest
