"""MPII Human Pose -> rows of people in raw one-based numbers.

Read from the published `.mat`, or from the `mpii_annotations.json` that several projects ship. The `.mat`
lacks something nearly everywhere: images without people, people without scale, objpos or joints, joints fewer
than 16, `is_visible` empty, a number or text. What is missing becomes NaN (0 for a joint), never an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.folders import image_name
from pose.data.formats.matlab import read_mat
from pose.data.formats.person_table import (
    INCOMPLETE,
    JOINTS,
    MPII_TEST,
    SOURCES,
    TRAIN,
    PersonTable,
    is_placed,
)
from pose.io.errors import reading
from pose.io.files import read_json

MAT = "mpii_human_pose_v1_u12_1.mat"
JSON = ("mpii_annotations.json", "mpii_annotations.json.gz")
HEAD_SIZE_OVER_DIAGONAL = 0.6  # PCKh's head size over the diagonal of the head box


def find_list(folder: Path) -> Path | None:
    """The list of people in MPII's folder, None if there is none."""
    return next((folder / name for name in JSON if (folder / name).is_file()), None)


def read_mpii_mat(path: str | Path) -> PersonTable:
    """People of all images, training and test, of the published `.mat`."""
    release = read_mat(path, "RELEASE", "a structure RELEASE with annolist and img_train")
    rows = []
    with reading(path, "MPII's annotations"):
        images = zip(_structs(release["annolist"]), np.atleast_1d(release["img_train"]), strict=True)
        for number, (image, trains) in enumerate(images, start=1):
            with reading(f"{path}: image {number}", "an annotated image"):
                for index, person in enumerate(_structs(image["annorect"])):
                    name = image_name("mpii", f"images/{image['image']['name']}", path)
                    rows.append(
                        _mat_person(person, name, index) | {"istrain_N": TRAIN if trains else MPII_TEST}
                    )
        table = _table(rows)
    # Test people have no joints in the published file, whatever stands here: they are the benchmark's secret.
    test_N = table.istrain_N == MPII_TEST
    table.part_NK2[test_N], table.visible_NK[test_N] = -1, 0
    complete_N = is_placed(table.centre_N2, table.scale_N) & table.labelled_NK.any(axis=1)
    table.istrain_N[~test_N & ~complete_N] = INCOMPLETE
    return table


def read_mpii_json(path: str | Path) -> tuple[PersonTable, np.ndarray]:
    """People of the training images, without head boxes, and (N,) bool: the published validation people."""
    rows, validation = [], []
    with reading(path, "a list of MPII's people"):
        for number, person in enumerate(read_json(path), start=1):
            with reading(f"{path}: person {number}", "an annotated person"):
                joint_K3 = np.array(person["joint_self"], dtype=np.float64).reshape(JOINTS, 3)
                x, y = person["objpos"]
                row = {
                    "name_N": image_name("mpii", f"images/{person['img_paths']}", path),
                    "centre_N2": (float(x), float(y)),
                    "scale_N": float(person["scale_provided"]),
                    "part_NK2": joint_K3[:, :2],
                    "visible_NK": joint_K3[:, 2],
                    "istrain_N": TRAIN,
                    "head_size_N": np.nan,
                    "person_N": int(person["people_index"]) - 1,
                }
                validation.append(float(person["isValidation"]) > 0)
                rows.append(row)
        return _table(rows), np.array(validation)


def _table(rows: list[dict[str, Any]]) -> PersonTable:
    columns = {field: np.array([row[field] for row in rows]) for field in rows[0]}
    return PersonTable(source_N=np.full(len(rows), SOURCES.index("mpii"), dtype=np.uint8), **columns)


def _mat_person(person: dict[str, Any], name: str, index: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (_number(person, side) for side in ("x1", "y1", "x2", "y2"))
    head_size = HEAD_SIZE_OVER_DIAGONAL * np.hypot(x2 - x1, y2 - y1)
    place = next(iter(_structs(person.get("objpos"))), {})
    part_K2, visible_K = np.zeros((JOINTS, 2)), np.zeros(JOINTS)
    for points in _structs(person.get("annopoints")):
        for point in _structs(points.get("point")):
            joint, x, y, visible = (_number(point, field) for field in ("id", "x", "y", "is_visible"))
            if np.isfinite([joint, x, y]).all():
                if not 0 <= joint < JOINTS:
                    raise ValueError(f"found joint id {joint:g}, expected 0 to {JOINTS - 1}")
                part_K2[int(joint)] = x, y
                # Neck and head top never have the flag: they count as visible, as in the JSON file.
                visible_K[int(joint)] = 1.0 if np.isnan(visible) else visible
    return {
        "name_N": name,
        "centre_N2": (_number(place, "x"), _number(place, "y")),
        "scale_N": _number(person, "scale"),
        "part_NK2": part_K2,
        "visible_NK": visible_K,
        "head_size_N": head_size if head_size > 0 else np.nan,
        "person_N": index,
    }


def _structs(value: Any) -> list[dict[str, Any]]:
    """The structures in a field's value: none if it is missing, or an empty array of anything."""
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def _number(struct: dict[str, Any], field: str) -> float:
    """The number in a field, also one written as text; NaN for anything else."""
    try:
        return float(struct[field])
    except (KeyError, TypeError, ValueError):
        return np.nan
