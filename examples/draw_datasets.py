"""Small data sets of other joints than people's, drawn, in COCO format as annotation tools write it.

    python examples/draw_datasets.py hand|mouse|insect|wholebody FOLDER [--images 60] [--seed 1]

FOLDER gets `annotations.json` and `images/`. Hands have 5 joints, mice 9 (sides at the end of a name),
insects 30, people the 133 of COCO-WholeBody; an image has one to three of them. Joints that something hides
are flagged 1, those outside the image are not labelled (0). The same seed draws the same files.

Frames. px: image pixels, zero-based. canvas: see `pose.data.synthetic.canvas`. camera: see `drawn_subjects`.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from drawn_subjects import DRAWN, Subject

from pose.data.synthetic.background import draw_background, draw_cover
from pose.data.synthetic.canvas import Canvas, develop, draw_parts
from pose.data.synthetic.files import write_jpeg
from pose.data.synthetic.pose import pick
from pose.data.synthetic.scene import OVERSAMPLE
from pose.data.threads import one_opencv_thread
from pose.io.errors import UserError
from pose.io.files import atomic_folder
from pose.keypoints.skeleton import built_in

Limbs = list[tuple[str, str]]
FINGERS = ("thumb", "forefinger", "middle_finger", "pinky_finger")
LEG = ("coxa", "knee", "ankle", "claw")
LEGS = [f"{side}_{leg}" for side in ("left", "right") for leg in ("front", "middle", "hind")]
LIMBS: dict[str, Limbs] = {
    "hand": [("wrist", finger) for finger in FINGERS],
    "mouse": [
        ("nose", "ear_left"), ("nose", "ear_right"), ("nose", "back"), ("back", "tail_base"),
        *(("back", f"front_paw_{side}") for side in ("left", "right")),
        *(("tail_base", f"hind_paw_{side}") for side in ("left", "right")),
    ],
    "insect": [
        ("left_antenna", "head"), ("right_antenna", "head"),
        ("head", "thorax"), ("thorax", "abdomen"), ("abdomen", "tail"),
        *(("thorax", f"{leg}_coxa") for leg in LEGS),
        *((f"{leg}_{a}", f"{leg}_{b}") for leg in LEGS for a, b in pairwise(LEG)),
    ],
}  # fmt: skip
SUBJECTS = {1: 0.45, 2: 0.35, 3: 0.2}  # shares of images with so many
SIZES = {1: (0.75, 1.15), 2: (0.6, 0.8), 3: (0.45, 0.6)}  # of a subject's joints, over the shorter side
LARGER = {"wholebody": 1.15}  # faces and hands are small parts of people
COVERED = 0.3  # share of images in which something lies before a subject
FLIP = np.array([1.0, -1.0])  # camera y is up, canvas y down
MIN_AREA = 40.0  # px; a subject of which less is seen is not annotated


def category(kind: str) -> dict[str, Any]:
    """The entry of `categories` that tells joints and limbs; limbs count from 1, as COCO's."""
    if kind == "wholebody":
        skeleton = built_in("coco_wholebody")
        name, joints, limbs = "person", list(skeleton.joints), list(skeleton.limbs)
    else:
        name, joints = kind, list(DRAWN[kind](np.random.default_rng(0)).joints)
        limbs = [(joints.index(a), joints.index(b)) for a, b in LIMBS[kind]]
    pairs = [[a + 1, b + 1] for a, b in limbs]
    return {"id": 1, "name": name, "supercategory": name, "keypoints": joints, "skeleton": pairs}


def draw_image(
    kind: str, joints: list[str], rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (H, W, 3) uint8 RGB and the annotations of what is in it."""
    width, height = (2 * int(side) for side in rng.integers(72, 89, 2))
    canvas = Canvas(int(width * OVERSAMPLE), int(height * OVERSAMPLE))
    draw_background(canvas, rng, clutter=0.25)
    light = np.array([rng.normal(0, 0.6), -rng.uniform(0.3, 1.0), rng.uniform(0.6, 1.2)])
    light /= np.linalg.norm(light)
    count = pick(rng, SUBJECTS)
    columns = rng.permutation(count)
    spots = []
    for k in range(count):
        subject = DRAWN[kind](rng)
        xyz_K3 = np.array([subject.joints[name][0] for name in joints])
        low, high = xyz_K3.min(axis=0), xyz_K3.max(axis=0)
        size = rng.uniform(*SIZES[count]) * LARGER.get(kind, 1.0) * min(canvas.width, canvas.height)
        zoom = size / float((high - low)[:2].max())
        middle = np.array([(columns[k] + 0.5) / count, 0.5]) + rng.normal(0, (0.08, 0.1))
        middle = middle * (canvas.width, canvas.height)
        origin = np.append(middle - zoom * FLIP * ((low + high) / 2)[:2], 3 * zoom * (k + 1))
        draw_parts(canvas, subject.parts, origin=origin, zoom=zoom, identity=k + 1, light=light, dim=0.55)
        spots.append((subject, origin, zoom))
    if rng.random() < COVERED:
        subject, origin, zoom = spots[-1]
        joint = subject.joints[joints[int(rng.integers(len(joints)))]][0]
        draw_cover(canvas, rng, spot=origin[:2] + zoom * FLIP * joint[:2], unit=0.7 * zoom)
    found = [
        annotate(canvas, k, subject, origin, zoom, joints) for k, (subject, origin, zoom) in enumerate(spots)
    ]
    return develop(canvas, rng, width=width, height=height), [one for one in found if one]


def annotate(
    canvas: Canvas, k: int, subject: Subject, origin: np.ndarray, zoom: float, joints: list[str]
) -> dict[str, Any] | None:
    """What a person would mark of subject k, in px; None if next to nothing of it is seen."""
    mask_hw = canvas.identity == k + 1
    area = float(mask_hw.sum()) / OVERSAMPLE**2
    xyz_K3 = np.array([subject.joints[name][0] for name in joints]) * (zoom, -zoom, zoom) + origin
    tolerance_K = zoom * np.array([subject.joints[name][1] for name in joints])
    joint_K2 = ((xyz_K3[:, :2] + 0.5) / OVERSAMPLE - 0.5).round(1)
    size = np.array([canvas.width, canvas.height])
    inside_K = ((joint_K2 >= 0) & (joint_K2 <= size / OVERSAMPLE - 1)).all(axis=1)
    if area < MIN_AREA or not inside_K.any():
        return None
    column_K, row_K = np.rint(xyz_K3[:, :2]).clip(0, size - 1).astype(int).T
    nearest_K = canvas.depth[row_K, column_K]
    flag_K = np.where(inside_K, np.where(nearest_K > xyz_K3[:, 2] + tolerance_K, 1, 2), 0)
    box = np.array(cv2.boundingRect(mask_hw.astype(np.uint8))) / OVERSAMPLE
    rows = zip(np.where(inside_K[:, None], joint_K2, 0).tolist(), flag_K.tolist(), strict=True)
    return {
        "category_id": 1,
        "keypoints": [value for (x, y), flag in rows for value in (x, y, flag)],
        "num_keypoints": int(inside_K.sum()),
        "bbox": box.round(1).tolist(),
        "area": round(area, 1),
        "iscrowd": 0,
    }


def draw_dataset(kind: str, folder: Path, *, images: int, seed: int) -> None:
    """Draw a set into a folder, which must not exist yet."""
    if folder.exists():
        raise UserError(f"{folder}: found a file or folder of this name, expected none")
    entry = category(kind)
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": [entry]}
    with atomic_folder(folder) as unfinished, one_opencv_thread():
        (unfinished / "images").mkdir()
        for number in range(1, images + 1):
            rng = np.random.default_rng([seed, list(DRAWN).index(kind), number])
            image_HW3, annotations = draw_image(kind, entry["keypoints"], rng)
            height, width = image_HW3.shape[:2]
            name = f"{number:04d}.jpg"
            write_jpeg(unfinished / "images" / name, image_HW3, rng)
            content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
            for one in annotations:
                ids = {"id": len(content["annotations"]) + 1, "image_id": number}
                content["annotations"].append(ids | one)
        (unfinished / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description="Draw a small data set in COCO format.")
    parser.add_argument("kind", choices=DRAWN)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw_dataset(args.kind, args.folder, images=args.images, seed=args.seed)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
