"""MPII Human Pose -> rows of people in raw one-based numbers.

Read from the published `.mat`, or from the `mpii_annotations.json` that several projects ship. The `.mat`
lacks something nearly everywhere: images without people, people without scale, objpos or joints, joints fewer
than 16, `is_visible` empty, a number or text. What is missing becomes NaN (0 for a joint), never an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.person_table import (
    INCOMPLETE,
    JOINTS,
    MPII_TEST,
    SOURCES,
    TRAIN,
    PersonTable,
    image_name,
    is_placed,
)
from pose.io.errors import UserError
from pose.io.files import read_json
from pose.io.matlab import read_mat

MAT = "mpii_human_pose_v1_u12_1.mat"
JSON = ("mpii_annotations.json", "mpii_annotations.json.gz")
HEAD_SIZE_OVER_DIAGONAL = 0.6  # PCKh's head size over the diagonal of the head box


def read_mpii_mat(path: str | Path) -> PersonTable:
    """People of all images, training and test, of the published `.mat`."""
    annotation_I, img_train_I = _release(Path(path))
    rows: list[tuple[Any, ...]] = []
    for number, (annotation, img_train) in enumerate(zip(annotation_I, img_train_I, strict=True), start=1):
        people = _structs(annotation["annorect"])
        if len(people) == 0:
            continue
        where = f"{path}: image {number}"
        name = image_name("mpii", f"images/{_text(annotation['image'], 'name', where)}", path)
        x1_P, y1_P, x2_P, y2_P = (_numbers(people, side) for side in ("x1", "y1", "x2", "y2"))
        head_P = HEAD_SIZE_OVER_DIAGONAL * np.hypot(x2_P - x1_P, y2_P - y1_P)
        scale_P = _numbers(people, "scale")
        fields = zip(_field(people, "objpos"), _field(people, "annopoints"), strict=True)
        for index, (objpos, annopoints) in enumerate(fields):
            joints = _joints(annopoints, f"{where}, person {index + 1}")
            rows.append((name, _point(objpos), scale_P[index], *joints, img_train, head_P[index], index))
    if not rows:
        raise UserError(
            f"{path}: found {len(img_train_I)} images without people, expected people in annorect"
        )
    names, centres, scales, parts, visibles, trains, heads, indices = zip(*rows, strict=True)
    table = _table(names, np.array(centres), np.array(scales), np.array(parts), np.array(visibles), indices)
    head_size_N = np.array(heads)
    table.head_size_N[:] = np.where(head_size_N > 0, head_size_N, np.nan)
    # Test people have no joints in the published file, whatever stands here: they are the benchmark's secret.
    test_N = ~np.array(trains, dtype=bool)
    table.part_NK2[test_N], table.visible_NK[test_N], table.istrain_N[test_N] = -1, 0, MPII_TEST
    complete_N = is_placed(table.centre_N2, table.scale_N) & table.labelled_NK.any(axis=1)
    table.istrain_N[~test_N & ~complete_N] = INCOMPLETE
    return table


def read_mpii_json(path: str | Path) -> tuple[PersonTable, np.ndarray]:
    """People of the training images, without head boxes, and (N,) bool: the published validation people."""
    people = read_json(path)
    if not isinstance(people, list) or not people or not isinstance(people[0], dict):
        found = type(people).__name__
        raise UserError(f"{path}: found {found}, expected a list of people with img_paths, joint_self, ...")
    rows: list[tuple[Any, ...]] = []
    for number, person in enumerate(people, start=1):
        try:
            name, joint_K3 = person["img_paths"], np.asarray(person["joint_self"], dtype=np.float64)
            centre = float(person["objpos"][0]), float(person["objpos"][1])
            scale, validates = float(person["scale_provided"]), float(person["isValidation"]) > 0
            index = np.int64(person["people_index"]) - 1
        except KeyError as error:
            keys = ", ".join(map(str, person))[:200]
            raise UserError(f"{path}: person {number} has no {error}, expected it beside {keys}") from None
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: person {number} is not as expected ({reason})") from None
        if not isinstance(name, str) or joint_K3.shape != (JOINTS, 3):
            found = f"image {name!r} and joint_self of shape {joint_K3.shape}"
            raise UserError(f"{path}: person {number} has {found}, expected a name and ({JOINTS}, 3)")
        rows.append((image_name("mpii", f"images/{name}", path), centre, scale, joint_K3, index, validates))
    names, centres, scales, joints, indices, validation = zip(*rows, strict=True)
    joint_NK3 = np.array(joints)
    part_NK2, visible_NK = joint_NK3[..., :2].copy(), joint_NK3[..., 2].copy()
    table = _table(names, np.array(centres), np.array(scales), part_NK2, visible_NK, indices)
    return table, np.array(validation)


def _table(
    names: tuple[str, ...],
    centre_N2: np.ndarray,
    scale_N: np.ndarray,
    part_NK2: np.ndarray,
    visible_NK: np.ndarray,
    indices: tuple[int, ...],
) -> PersonTable:
    """People to train on, without head sizes."""
    num_people = len(names)
    return PersonTable(
        source_N=np.full(num_people, SOURCES.index("mpii"), dtype=np.uint8),
        name_N=np.array(names, dtype=object),
        centre_N2=centre_N2,
        scale_N=scale_N,
        part_NK2=part_NK2,
        visible_NK=visible_NK,
        istrain_N=np.full(num_people, TRAIN),
        head_size_N=np.full(num_people, np.nan),
        person_N=np.array(indices),
    )


def _release(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """RELEASE.annolist and RELEASE.img_train, one entry an image."""
    release = read_mat(path, "RELEASE", "a structure RELEASE with annolist and img_train")
    names = release.dtype.names or ()
    if release.size != 1 or not {"annolist", "img_train"} <= set(names):
        found = ", ".join(names) or release.dtype
        raise UserError(f"{path}: RELEASE has {found}, expected one structure with annolist and img_train")
    annotation_I, img_train_I = (release[name].item().ravel() for name in ("annolist", "img_train"))
    if not {"image", "annorect"} <= set(annotation_I.dtype.names or ()):
        found = annotation_I.dtype.names
        raise UserError(f"{path}: RELEASE.annolist has {found}, expected image and annorect")
    if len(annotation_I) != len(img_train_I) or img_train_I.dtype.kind not in "fiub":
        found = f"{len(annotation_I)} images in annolist and {len(img_train_I)} entries in img_train"
        raise UserError(f"{path}: found {found}, expected a number for each image")
    return annotation_I, img_train_I


def _joints(annopoints: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(16, 2) raw px, 0 where absent, and (16,) visible."""
    part_K2, visible_K = np.zeros((JOINTS, 2)), np.zeros(JOINTS)
    for points in _field(_structs(annopoints), "point"):
        point_J = _structs(points)
        id_J, x_J, y_J, visible_J = (_numbers(point_J, field) for field in ("id", "x", "y", "is_visible"))
        given_J = np.isfinite(id_J) & np.isfinite(x_J) & np.isfinite(y_J)
        joint_J = id_J[given_J].astype(int)
        if ((joint_J < 0) | (joint_J >= JOINTS)).any():
            raise UserError(f"{where} has joints with ids {joint_J.tolist()}, expected 0 to {JOINTS - 1}")
        part_K2[joint_J] = np.stack([x_J, y_J], axis=1)[given_J]
        # Neck and head top never have the flag: they count as visible, as in the JSON file.
        visible_K[joint_J] = np.nan_to_num(visible_J[given_J], nan=1.0)
    return part_K2, visible_K


def _point(objpos: Any) -> list[float]:
    """x and y of a structure, NaN where it is missing or empty."""
    position = _structs(objpos)
    return [float(_numbers(position, axis)[0]) if len(position) == 1 else np.nan for axis in ("x", "y")]


def _structs(value: Any) -> np.ndarray:
    """The structures in a field's value, 1-D: none if it is missing, or an empty array of anything."""
    return value.ravel() if isinstance(value, np.ndarray) and value.dtype.names else np.empty(0, dtype=[])


def _field(structs: np.ndarray, field: str) -> list[Any]:
    """A field's value in each of the structures, None where they have no such field."""
    return list(structs[field]) if field in (structs.dtype.names or ()) else [None] * len(structs)


def _numbers(structs: np.ndarray, field: str) -> np.ndarray:
    """The number in a field of each structure, also one written as text; NaN for anything else."""
    return np.array([_number(value) for value in _field(structs, field)], dtype=np.float64)


def _number(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1:
        return np.nan
    try:
        return float(value.item())
    except (TypeError, ValueError):
        return np.nan


def _text(structs: Any, field: str, where: str) -> str:
    values = [value for value in _field(_structs(structs), field) if isinstance(value, np.ndarray)]
    if len(values) != 1 or values[0].dtype.kind != "U" or values[0].size != 1:
        raise UserError(f"{where} has no {field}, expected a structure with its file's name")
    return str(values[0].item())
