"""COCO's result format: people by the id of their image, as its evaluation server takes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pose.io.errors import UserError, reading
from pose.io.files import read_json
from pose.keypoints.people import People
from pose.keypoints.results import FAR, PERSON, ImageResult, Results, coco_results


def write_coco(path: Path, results: Results) -> None:
    """`[{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}]`; see `coco_results`."""
    entries = coco_results(results.images, category=results.category)
    path.write_text(json.dumps(entries, separators=(",", ":")) + "\n", encoding="utf-8")


def read_coco(path: Path, joints: int | None = None) -> Results:
    """The people of each image, in the file's order. joints: expected of each person, None for any number.

    Joints are where the file says, those of score 0 too: similarity is measured from there. Of files of ours,
    which say them, also the file and frame of each image.
    """
    with reading(path, f"COCO results of {joints or 'equally many'} joints a person"):
        entries = read_json(path)
        people_of: dict[int, list[int]] = {}
        for number, entry in enumerate(entries, start=1):
            where = f"{path}: result {number}"
            with reading(where, "image_id, category_id, keypoints and score"):
                if type(image_id := entry["image_id"]) is not int:
                    raise UserError(
                        f"{where}: found image_id {str(image_id)[:40]!r}, expected a whole number"
                    )
                people_of.setdefault(image_id, []).append(number - 1)
                count = len(entry["keypoints"])
                joints = joints or max(count // 3, 1)
                if count != 3 * joints:
                    expected = f"expected {3 * joints}: x, y and score of {joints} joints"
                    raise UserError(f"{where}: found {count} numbers in keypoints, {expected}")
        joints = joints or 0  # of nobody
        numbers = [entry["keypoints"] for entry in entries]
        keypoint_NK3 = np.array(numbers, dtype=np.float64).reshape(len(entries), joints, 3)
        score_N = np.array([entry["score"] for entry in entries], dtype=np.float64)
        places = {entry["image_id"]: (_text(entry.get("file")), entry.get("frame")) for entry in entries}
        category = int(entries[0].get("category_id", PERSON)) if entries else PERSON
    if not (np.isfinite(score_N).all() and (np.abs(keypoint_NK3) < FAR).all()):
        raise UserError(f"{path}: found NaN or a number beyond {FAR:g}, expected px and scores")
    images = [
        ImageResult(
            People(keypoint_NK3[rows, :, :2], keypoint_NK3[rows, :, 2], score_N[rows]),
            *places[image_id],
            image_id=image_id,
        )
        for image_id, rows in people_of.items()
    ]
    return Results(images, None, joints, path, category=category)


def _text(name: object) -> str | None:
    return None if name is None else str(name)
