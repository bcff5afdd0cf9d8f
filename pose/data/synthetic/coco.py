"""Synthetic COCO: nobody to many people in an image, overlapping, cut off, tiny; crowds as one region.

Written as COCO 2017 comes: `annotations/person_keypoints_{train,val}2017.json`, `train2017/`, `val2017/`, and
`valid_id`, the ids of the images to validate on. Coordinates are zero-based px, to a tenth: COCO's are whole,
of images about three times as large.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.data.rle import runs_of
from pose.data.synthetic.files import draw_all, write_jpeg
from pose.data.synthetic.person import COCO, Figure
from pose.data.synthetic.pose import GATHERED, pick
from pose.data.synthetic.scene import OVERSAMPLE, PersonTruth, Placement, Scene, cover_for, draw_scene

COCO_SET = 3  # keeps this set's random stream apart from the others'
FILES = ("train2017", "val2017")
VALIDATION_IN_TRAIN_FILE = 0.25  # as in the published valid_id: the split is by id, not by file
MIN_LABELLED_STATURE = 32.0  # px; the joints of smaller people are not given
MIN_OUTLINE_AREA = 12.0  # px; people of whom less is seen are not annotated

PEOPLE = dict(enumerate((0.05, 0.12, 0.62, 0.14, 0.03, 0.02, 0.02)))  # shares of images with so many people
BESIDE_OTHERS = 0.85  # share of those who join others that stand close to one of them
# Share of those beside an upright person who stand on their hands, their legs as high as the other's trunk:
# distance alone gives these to the wrong person, which is what tags are for.
UPSIDE_DOWN = 0.6
FACING = 1.0  # share of the people who look about into the camera
# Clutter of the background, over that behind a single person: minutes of training are to be enough.
CLUTTER = 0.25
COVERED = 0.12  # share of the images in which something stands before somebody
CROWD = 0.1  # share of the images with a crowd in the background


@dataclass(frozen=True)
class ImagePlan:
    """index: in the random stream. file: train2017 or val2017. validates: whether `valid_id` lists it."""

    index: int
    id: int
    file: str
    validates: bool


def write_coco(folder: Path, *, train: int, validation: int, seed: int, pool: Executor | None) -> None:
    """Write `train` and `validation` images with their annotations into an empty folder."""
    plan = plan_coco(np.random.default_rng([seed, COCO_SET]), train=train, validation=validation)
    for name in ("annotations", *FILES):
        (folder / name).mkdir()
    images = draw_all("COCO", partial(_draw_image, folder=folder, seed=seed), plan, pool)
    first_id = 1  # ids continue from file to file: a split takes people from both
    for file in FILES:
        of_file = [image for planned, image in zip(plan, images, strict=True) if planned.file == file]
        content = _annotation_file(of_file, first_id)
        first_id += len(content["annotations"])
        path = folder / "annotations" / f"person_keypoints_{file}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    listed = "".join(f"{planned.id}\n" for planned in plan if planned.validates)
    (folder / "valid_id").write_text(listed, encoding="utf-8")


def plan_coco(rng: np.random.Generator, *, train: int, validation: int) -> list[ImagePlan]:
    """Exactly as many images as asked for, with ids in no order, as COCO's."""
    id_N = rng.permutation(10 * (train + validation) + 1)[: train + validation] + 1
    plan = []
    for index, id in enumerate(id_N.tolist()):
        validates = index >= train
        in_train_file = not validates or (index - train) % round(1 / VALIDATION_IN_TRAIN_FILE) == 1
        plan.append(ImagePlan(index, id, FILES[0] if in_train_file else FILES[1], validates))
    return plan


def _draw_image(plan: ImagePlan, *, folder: Path, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw and write an image; its entry under `images` and those under `annotations`, without their ids."""
    rng = np.random.default_rng([seed, COCO_SET, plan.index])
    scene, crowd = draw_gathering(rng)
    name = f"{plan.id:012d}.jpg"
    write_jpeg(folder / plan.file / name, scene.image_HW3, rng)
    height, width = scene.image_HW3.shape[:2]
    found = [_annotate(scene, k, rng) for k in range(crowd, len(scene.people))]
    found.append(_annotate_crowd(scene, crowd) if crowd else None)
    annotations = [one | {"image_id": plan.id, "category_id": 1} for one in found if one]
    return {"id": plan.id, "file_name": name, "width": width, "height": height}, annotations


# --- where people stand ---


def draw_gathering(rng: np.random.Generator) -> tuple[Scene, int]:
    """A scene of nobody to six people, and how many more, the first in it, are a crowd behind them."""
    width, height = (2 * int(side) for side in rng.integers(66, 89, 2))
    people = pick(rng, PEOPLE)
    horizon = height * rng.uniform(0.3, 0.6)
    crowd = _crowd(rng, width, horizon, height) if people and rng.random() < CROWD else []
    usual = rng.uniform(0.76, 1.0) * (1 - 0.05 * people) * height
    placements: list[Placement] = []
    for _ in range(people):
        kind = rng.random()
        if kind < 0.05:  # far away
            stature = rng.uniform(16, 36)
        elif kind < 0.1:  # close, and cut off
            stature = rng.uniform(1.0, 1.6) * height
        else:
            stature = max(36.0, usual * rng.uniform(0.75, 1.25))
        placements.append(_place(rng, stature, placements, width, height, horizon))
    placements.sort(key=lambda placed: placed.stature)  # the larger, the nearer
    covers = []
    if people and rng.random() < COVERED:
        covers.append(cover_for(rng, placements[int(rng.integers(people))]))
    everybody = [*crowd, *placements]
    scene = draw_scene(rng, width=width, height=height, placements=everybody, covers=covers, clutter=CLUTTER)
    return scene, len(crowd)


def _place(
    rng: np.random.Generator,
    stature: float,
    others: Sequence[Placement],
    width: int,
    height: int,
    horizon: float,
) -> Placement:
    """A figure on level ground that ends at the horizon, anywhere in the image or close to somebody else."""
    other = others[int(rng.integers(len(others)))] if others and rng.random() < BESIDE_OTHERS else None
    upside_down = other is not None and other.figure.kind != "handstand" and rng.random() < UPSIDE_DOWN
    figure = Figure(rng, {"handstand": 1.0} if upside_down else GATHERED, facing=FACING)
    low, high = figure.extent()
    across = rng.uniform(0.1, 0.9) * width
    if other is not None:
        side = 1 if rng.random() < 0.5 else -1
        across = float(other.pelvis_xy[0]) + side * rng.uniform(0.25, 0.45) * other.stature
    # The larger somebody appears, the nearer, and the lower in the image their feet are.
    nearness = min(1.0, stature / (0.8 * height))
    ground = horizon + (height * 1.02 - horizon) * nearness + rng.normal(0, 0.03) * height
    pelvis_y = ground + stature * low[1]
    # Beyond a border only so far that the trunk stays in the image.
    margin = min(0.45 * stature * min(1.0, float(high[0] - low[0])), 0.3 * width) * 0.4
    across = float(np.clip(across, margin, width - margin))
    pelvis_y = float(np.clip(pelvis_y, 0.12 * height, 0.97 * height))
    return Placement(figure, np.array([across, pelvis_y]), stature)


def _crowd(rng: np.random.Generator, width: int, horizon: float, height: int) -> list[Placement]:
    """Small people close together, too many to annotate one by one."""
    stature = rng.uniform(24, 46)
    across = rng.uniform(0.05, 0.5) * width
    placements = []
    for _ in range(int(rng.integers(5, 13))):
        figure = Figure(rng, {"stand": 0.6, "walk": 0.2, "sit": 0.2})
        size = stature * rng.uniform(0.85, 1.15)
        foot = horizon + 0.2 * height + rng.uniform(-0.2, 0.1) * size
        placements.append(Placement(figure, np.array([across, foot + size * figure.extent()[0][1]]), size))
        across += stature * rng.uniform(0.2, 0.45)
    return [placements[k] for k in rng.permutation(len(placements))]


# --- how they are annotated ---


def _annotate(scene: Scene, k: int, rng: np.random.Generator) -> dict[str, Any] | None:
    """Annotation of person k of a scene, None if next to nothing of them is seen."""
    mask_hw = scene.identity_hw == k + 1
    area = float(mask_hw.sum()) / OVERSAMPLE**2
    outline = _polygons(mask_hw) if area >= MIN_OUTLINE_AREA else []
    if not outline:
        return None
    corner_N2 = np.concatenate(outline).reshape(-1, 2)
    low, high = corner_N2.min(axis=0), corner_N2.max(axis=0)
    keypoints = _keypoints(scene.people[k], rng)
    return {
        "segmentation": outline,
        "area": round(area, 1),
        "bbox": np.round([*low, *(high - low)], 2).tolist(),
        "iscrowd": 0,
        "num_keypoints": sum(visibility > 0 for visibility in keypoints[2::3]),
        "keypoints": keypoints,
    }


def _keypoints(person: PersonTruth, rng: np.random.Generator) -> list[float]:
    """x, y, v of the 17 joints: v = 2 seen, 1 hidden but given, 0 not given (x and y are 0 then).

    As COCO's annotators do, hidden joints of the face are hardly ever given, about four in ten of the hidden
    others are: 13 % of all joints given are hidden ones, as in photographs.
    """
    joints = person.coco
    chance_K = rng.random(len(COCO))
    given_if_hidden_K = np.where(np.arange(len(COCO)) < 5, 0.06, 0.38)
    given_K = joints.inside_K & (~joints.hidden_K | (chance_K < given_if_hidden_K))
    if person.stature < MIN_LABELLED_STATURE:
        given_K[:] = False
    visibility_K = np.where(given_K, np.where(joints.hidden_K, 1, 2), 0)
    joint_K2 = np.where(given_K[:, None], np.round(joints.xy_K2, 1), 0.0)
    rows = zip(joint_K2.tolist(), visibility_K.tolist(), strict=True)
    return [value for (x, y), v in rows for value in (x, y, v)]


def _polygons(mask_hw: np.ndarray) -> list[list[float]]:
    """Outlines of a canvas mask, in px counted as COCO's polygons are: a pixel covers 0 to 1."""
    x, y, width, height = cv2.boundingRect(mask_hw.astype(np.uint8))
    cut = mask_hw[y : y + height, x : x + width].astype(np.uint8)
    # OpenCV's contours run through the centres of border pixels: nearer to the border itself on a finer grid.
    fine = cv2.resize(cut, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        point_N2 = cv2.approxPolyDP(contour, 1.5, True)[:, 0]
        if len(point_N2) >= 3 and cv2.contourArea(contour) >= 36:
            polygons.append(np.round(((point_N2 + 0.5) / 3 + (x, y)) / OVERSAMPLE, 2).ravel().tolist())
    return polygons


def _annotate_crowd(scene: Scene, crowd: int) -> dict[str, Any] | None:
    """The region of the first `crowd` people, with the gaps between them; None if none are seen."""
    member_hw = ((scene.identity_hw >= 1) & (scene.identity_hw <= crowd)).astype(np.uint8)
    gap = int(OVERSAMPLE * 0.3 * np.mean([person.stature for person in scene.people[:crowd]])) | 1
    region_hw = cv2.morphologyEx(member_hw, cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    region_hw[scene.identity_hw > crowd] = 0  # those who stand before the crowd are not of it
    height, width = scene.image_HW3.shape[:2]
    region_HW = cv2.resize(255 * region_hw, (width, height), interpolation=cv2.INTER_AREA) > 127
    if not region_HW.any():
        return None
    return {
        "segmentation": {"counts": runs_of(region_HW).tolist(), "size": [height, width]},
        "area": int(region_HW.sum()),
        "bbox": list(cv2.boundingRect(region_HW.astype(np.uint8))),
        "iscrowd": 1,
        "num_keypoints": 0,
        "keypoints": [0] * (3 * len(COCO)),
    }


def _annotation_file(
    images: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], first_id: int
) -> dict[str, Any]:
    """A file's content; `first_id` is the id of its first annotation."""
    category = {
        "supercategory": "person",
        "id": 1,
        "name": "person",
        "keypoints": list(COCO.joints),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.limbs],  # one-based, as published
    }
    people = [person for _, annotations in images for person in annotations]
    return {
        "info": {"description": "synthetic people in the layout of COCO", "version": "1.0"},
        "licenses": [],
        "images": [image for image, _ in images],
        "annotations": [person | {"id": number} for number, person in enumerate(people, start=first_id)],
        "categories": [category],
    }
