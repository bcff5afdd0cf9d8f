"""Annotation files in COCO's format and images for them, made and prepared in a line."""

import json
from pathlib import Path
from typing import Any

from helpers import COCO, SIZE, noise

from pose.data.image_set import ImageSet
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.summary import Summary
from pose.io.images import encode_jpeg
from pose.metrics.truth import check_truth
from pose.params import CocoParams, SplitCounts

Entry = dict[str, Any]
ALL = SplitCounts(train=0, validation=0)
COCO_PARAMS = CocoParams(
    images=ALL,
    min_people=SplitCounts(train=1, validation=1),
    longest=96,
    jpeg_quality=95,
    ignore_unlabelled=True,
    assume_joints=False,
    exif="stored",
)


def image_entry(image_id: int, file_name: str = "", size: tuple[int, int] = SIZE) -> Entry:
    return {
        "id": image_id,
        "file_name": file_name or f"{image_id:012d}.jpg",
        "width": size[0],
        "height": size[1],
    }


def person_entry(annotation_id: int, image_id: int, joints: int = 17, **replaced: Any) -> Entry:
    """A person whose first joints are labelled, at places that differ from joint to joint."""
    keypoints = [
        number
        for k in range(17)
        for number in ((10 + 3 * k, 8 + 2 * k, 1 + k % 2) if k < joints else (0, 0, 0))
    ]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 8, 50, 40],
        "area": 1000.0,
        "num_keypoints": joints,
        "keypoints": keypoints,
        "segmentation": [[10, 8, 60, 8, 60, 48, 10, 48]],
    } | replaced


def crowd_entry(
    annotation_id: int, image_id: int, low: int = 600, length: int = 700, size: tuple[int, int] = SIZE
) -> Entry:
    counts = [low, length, size[0] * size[1] - low - length]
    return person_entry(
        annotation_id,
        image_id,
        joints=0,
        iscrowd=1,
        segmentation={"size": [size[1], size[0]], "counts": counts},
    )


def annotation_file_content(images: list[Entry], people: list[Entry], *categories: Entry) -> Entry:
    """What such a file holds. categories: further ones than that of people."""
    person = {"id": 1, "name": "person", "supercategory": "person"}
    person |= {"keypoints": list(COCO.joints), "skeleton": []}
    content = {"images": images, "annotations": people, "categories": [person, *categories]}
    return {"info": {"year": 2017}, "licenses": []} | content


def write_annotations(
    root: Path, name: str, images: list[Entry], people: list[Entry], *categories: Entry
) -> Entry:
    """Writes an annotation file such as `train2017`, and a file for each of its images; its content."""
    path = root / "coco" / "annotations" / f"person_keypoints_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = annotation_file_content(images, people, *categories)
    path.write_text(json.dumps(content))
    (root / "coco" / name).mkdir(exist_ok=True)
    for entry in images:
        image = noise(entry["id"], entry["width"], entry["height"])
        (root / "coco" / name / entry["file_name"]).write_bytes(encode_jpeg(image, 90))
    return content


def coco_params(**values: Any) -> CocoParams:
    return COCO_PARAMS.model_copy(update=values)


def prepare_images(root: Path, params: CocoParams = COCO_PARAMS, seed: int = 1) -> tuple[ImageSet, Summary]:
    folder = root / "prepared" / "coco"
    summary = prepare_coco(root, folder, params=params, seed=seed, check=check_truth, workers=1)
    return ImageSet(folder), summary
