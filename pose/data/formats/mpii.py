"""MPII Human Pose: the published `.mat`, and the peers' `mpii_annotations.json`, -> rows of people in raw one-based numbers.

The published file misses something nearly everywhere: images without people, people without scale, objpos or
joints, joints fewer than 16, `is_visible` empty, a number or a string. What is missing becomes NaN (or 0, for
a joint), never an error.
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
    rows: dict[str, list[Any]] = {
        "name": [],
        "centre": [],
        "scale": [],
        "part": [],
        "visible": [],
        "train": [],
        "head": [],
        "person": [],
    }
    for number, (annotation, img_train) in enumerate(zip(annotation_I, img_train_I, strict=True), start=1):
        people = _structs(annotation["annorect"])
        if len(people) == 0:
            continue
        where = f"{path}: image {number}"
        name = image_name("mpii", f"images/{_text(annotation['image'], 'name', where)}", path)
        x1_P, y1_P, x2_P, y2_P = (_numbers(people, side) for side in ("x1", "y1", "x2", "y2"))
        rows["head"].extend(HEAD_SIZE_OVER_DIAGONAL * np.hypot(x2_P - x1_P, y2_P - y1_P))
        rows["scale"].extend(_numbers(people, "scale"))
        for index, (objpos, annopoints) in enumerate(
            zip(_field(people, "objpos"), _field(people, "annopoints"), strict=True)
        ):
            part_K2, visible_K = _joints(annopoints, f"{where}, person {index + 1}")
            rows["name"].append(name)
            rows["centre"].append(_point(objpos))
            rows["part"].append(part_K2)
            rows["visible"].append(visible_K)
            rows["train"].append(img_train)
            rows["person"].append(index)
    num_people = len(rows["name"])
    if num_people == 0:
        raise UserError(
            f"{path}: {len(img_train_I)} images without any person, expected people in RELEASE.annolist.annorect"
        )
    head_size_N = np.array(rows["head"])
    table = PersonTable(
        source_N=np.full(num_people, SOURCES.index("mpii"), dtype=np.uint8),
        name_N=np.array(rows["name"], dtype=object),
        centre_N2=np.array(rows["centre"]),
        scale_N=np.array(rows["scale"]),
        part_NK2=np.array(rows["part"]),
        visible_NK=np.array(rows["visible"]),
        istrain_N=np.full(num_people, TRAIN),
        head_size_N=np.where(head_size_N > 0, head_size_N, np.nan),
        person_N=np.array(rows["person"]),
    )
    # Test people have no joints in the published file, whatever stands here: they are the benchmark's secret.
    test_N = ~np.array(rows["train"], dtype=bool)
    table.part_NK2[test_N], table.visible_NK[test_N], table.istrain_N[test_N] = -1, 0, MPII_TEST
    placed_N = is_placed(table.centre_N2, table.scale_N)
    table.istrain_N[~test_N & ~(placed_N & table.labelled_NK.any(axis=1))] = INCOMPLETE
    return table


def read_mpii_json(path: str | Path) -> tuple[PersonTable, np.ndarray]:
    """People of the training images, as peers ship them, and (N,) bool.

    The published validation people. No head boxes.
    """
    people = read_json(path)
    if not isinstance(people, list) or not people or not isinstance(people[0], dict):
        raise UserError(
            f"{path}: found {type(people).__name__}, expected a list of people with img_paths, objpos, joint_self, ..."
        )
    names, centre_N2, scale_N, joint_NK3, validation_N, person_N = [], [], [], [], [], []
    for number, person in enumerate(people, start=1):
        try:
            name, joint_K3 = person["img_paths"], np.asarray(person["joint_self"], dtype=np.float64)
            centre_N2.append([float(person["objpos"][0]), float(person["objpos"][1])])
            scale_N.append(float(person["scale_provided"]))
            validation_N.append(float(person["isValidation"]) > 0)
            person_N.append(np.int64(person["people_index"]) - 1)
        except KeyError as error:
            raise UserError(
                f"{path}: person {number} has no {error}, expected it beside {', '.join(map(str, person))[:200]}"
            ) from None
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(
                f"{path}: person {number} is not as expected ({' '.join(str(error).split())})"
            ) from None
        if not isinstance(name, str) or joint_K3.shape != (JOINTS, 3):
            raise UserError(
                f"{path}: person {number} of image {name!r} has joint_self of shape {joint_K3.shape}, expected (16, 3)"
            )
        names.append(image_name("mpii", f"images/{name}", path))
        joint_NK3.append(joint_K3)
    num_people = len(names)
    joints = np.array(joint_NK3)
    table = PersonTable(
        source_N=np.full(num_people, SOURCES.index("mpii"), dtype=np.uint8),
        name_N=np.array(names, dtype=object),
        centre_N2=np.array(centre_N2),
        scale_N=np.array(scale_N),
        part_NK2=joints[..., :2].copy(),
        visible_NK=joints[..., 2].copy(),
        istrain_N=np.full(num_people, TRAIN),
        head_size_N=np.full(num_people, np.nan),
        person_N=np.array(person_N),
    )
    return table, np.array(validation_N)


def _release(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """RELEASE.annolist and RELEASE.img_train, one entry an image."""
    release = read_mat(path, "RELEASE", "a structure RELEASE with annolist and img_train")
    if release.dtype.names is None or release.size != 1:
        raise UserError(
            f"{path}: RELEASE holds {release.dtype}, expected one structure with annolist and img_train"
        )
    fields = {}
    for name in ("annolist", "img_train"):
        if name not in release.dtype.names:
            raise UserError(
                f"{path}: RELEASE has {', '.join(release.dtype.names)}, expected {name} among them"
            )
        fields[name] = release[name].item().ravel()
    annotation_I, img_train_I = fields["annolist"], fields["img_train"]
    if annotation_I.dtype.names is None or not {"image", "annorect"} <= set(annotation_I.dtype.names):
        raise UserError(
            f"{path}: RELEASE.annolist has {annotation_I.dtype.names}, expected image and annorect"
        )
    if len(annotation_I) != len(img_train_I) or img_train_I.dtype.kind not in "fiub":
        raise UserError(
            f"{path}: RELEASE.annolist has {len(annotation_I)} images, img_train {len(img_train_I)}, expected a number each"
        )
    return annotation_I, img_train_I


def _joints(annopoints: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(16, 2) raw px, 0 where absent, and (16,) visible."""
    part_K2, visible_K = np.zeros((JOINTS, 2)), np.zeros(JOINTS)
    for points in _field(_structs(annopoints), "point"):
        point_J = _structs(points)
        id_J, x_J, y_J, visible_J = (_numbers(point_J, field) for field in ("id", "x", "y", "is_visible"))
        there_J = np.isfinite(id_J) & np.isfinite(x_J) & np.isfinite(y_J)
        joint_J = id_J[there_J].astype(int)
        if ((joint_J < 0) | (joint_J >= JOINTS)).any():
            raise UserError(f"{where} has joints with ids {joint_J.tolist()}, expected 0 to {JOINTS - 1}")
        part_K2[joint_J] = np.stack([x_J, y_J], axis=1)[there_J]
        # Neck and head top never say whether they are visible: they count as visible, as in the peers' files.
        visible_K[joint_J] = np.nan_to_num(visible_J[there_J], nan=1.0)
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
    """The number in a field of each structure, also one written as text.

    NaN where it is missing, empty or no number.
    """
    return np.array([_number(value) for value in _field(structs, field)], dtype=np.float64)


def _number(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1:
        return np.nan
    try:
        return float(value.item())
    except (TypeError, ValueError):
        return np.nan


def _text(structs: Any, field: str, where: str) -> str:
    values = _field(_structs(structs), field)
    if (
        len(values) != 1
        or not isinstance(values[0], np.ndarray)
        or values[0].dtype.kind != "U"
        or values[0].size != 1
    ):
        raise UserError(f"{where} has no {field}, expected a structure with its file's name")
    return str(values[0].item())
