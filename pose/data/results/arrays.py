"""Arrays of one person a row: `predictions/TASK.h5`, MPII's `pred.mat` and `valid.h5`, `.npy` and `.npz`.

N people, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pose.data.formats.matlab import read_mat
from pose.io.errors import UserError, reading
from pose.io.files import check_regular_file
from pose.io.hdf5 import create_h5, open_h5, read_number_column, write_column
from pose.keypoints.people import People
from pose.keypoints.results import FAR, ImageResult, Results, skeleton_of
from pose.keypoints.skeleton import Skeleton, built_in

PREDS = "preds"  # MPII's predictions in files of stacked-hourglass projects and HRNet, px counted from 1
MPII_JOINTS = 16


def write_rows(path: Path, results: Results) -> None:
    """HDF5: joints in image px, their confidence, the row of each person in the prepared set."""
    keypoint_NK3, row_N = _keypoints(results), np.array([one.row for one in results.images], dtype=np.int64)
    with create_h5(path) as file:
        file.attrs["task"] = results.task
        if results.skeleton:
            file.attrs.update(skeleton=results.skeleton.name, joints=[*results.skeleton.joints])
        write_column(file, "joint", keypoint_NK3[..., :2].astype(np.float32))
        write_column(file, "score", keypoint_NK3[..., 2].astype(np.float32))
        write_column(file, "row", row_N)


def read_rows(path: Path, joints: int | None = None) -> Results:
    """What `write_rows` wrote. joints: expected of each person, None for any number."""
    with open_h5(path) as file:
        row_N = read_number_column(file, "row", (None,)).astype(np.int64)
        joint_NK2 = read_number_column(file, "joint", (len(row_N), joints, 2))
        score_NK = read_number_column(file, "score", joint_NK2.shape[:2])
        with reading(path, "predictions with the names of their joints"):
            names = [str(name) for name in file.attrs.get("joints", ())]
            name, task = (str(file.attrs.get(key, "")) for key in ("skeleton", "task"))
            skeleton = skeleton_of(names, name, str(path))
    keypoint_NK3 = np.concatenate([joint_NK2, score_NK[..., None]], axis=2)
    return _results(path, keypoint_NK3, skeleton, rows=row_N.tolist(), task=task)


def write_preds(path: Path, results: Results) -> None:
    """MPII's `preds` (N, K, 2), px counted from 1, as MATLAB or HDF5 file."""
    preds_NK2 = _keypoints(results)[..., :2] + 1
    if path.suffix == ".mat":
        import scipy.io  # here, since training must not need it

        scipy.io.savemat(path, {PREDS: preds_NK2}, do_compression=True)
        return
    with create_h5(path) as file:
        write_column(file, PREDS, preds_NK2)


def read_preds(path: Path) -> Results:
    """`preds` of shape (N, K, 2) or (2, K, N), px counted from 1; 16 joints are MPII's."""
    check_regular_file(path, f"a file with {PREDS}")
    if h5py.is_hdf5(path):
        with open_h5(path) as file:
            preds = read_number_column(file, PREDS, (None, None, None))
    else:
        preds = np.asarray(read_mat(path, PREDS, f"an array {PREDS} (N, K, 2)"))
    preds = preds[None] if preds.ndim == 2 else preds  # MATLAB's reader drops the axis of a single person
    if preds.ndim == 3 and preds.shape[0] == 2 != preds.shape[2]:
        preds = preds.transpose(2, 1, 0)
    preds_NK3 = _with_scores(preds, f"{path}: {PREDS}", widths=(2,)) - [1, 1, 0]
    skeleton = built_in("mpii") if preds_NK3.shape[1] == MPII_JOINTS else None
    return _results(path, preds_NK3, skeleton, has_scores=False)


def write_numpy(path: Path, results: Results) -> None:
    """(N, K, 3): x, y in image px, NaN where not found, and confidence; as `joints` in an `.npz`."""
    keypoint_NK3 = _keypoints(results)
    with path.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, joints=keypoint_NK3)
        else:
            np.save(file, keypoint_NK3)


def read_numpy(path: Path) -> Results:
    """(N, K, 2 or 3): x, y in image px, counted from 0, NaN where not found, and confidence if there is one.

    Of an `.npz` the array `joints`, or the only one.
    """
    check_regular_file(path, "arrays of numpy")
    with reading(path, "arrays of numpy"):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            values = loaded
        elif len(loaded.files) == 1 or "joints" in loaded.files:
            values = loaded["joints" if "joints" in loaded.files else loaded.files[0]]
        else:
            raise UserError(f"{path}: found arrays {', '.join(loaded.files)[:200]}, expected joints")
    keypoint_NK3 = _with_scores(values, str(path), widths=(2, 3))
    return _results(path, keypoint_NK3, None, has_scores=values.shape[2] == 3)


def _with_scores(values: Any, where: str, widths: Sequence[int]) -> np.ndarray:
    """(N, K, 3) float64, with confidences of 1 where there are none."""
    is_shaped = values.ndim == 3 and values.shape[2] in widths and values.shape[1]
    if not is_shaped or values.dtype.kind not in "fiu":
        expected = f"numbers of shape (N, K, {' or '.join(map(str, widths))})"
        raise UserError(f"{where}: found {values.dtype} of shape {values.shape}, expected {expected}")
    values_NK3 = np.ones((*values.shape[:2], 3))
    values_NK3[..., : values.shape[2]] = values
    return values_NK3


def _keypoints(results: Results) -> np.ndarray:
    """(N, K, 3): x, y, confidence of the one person of each image."""
    people = People.join([one.people for one in results.images], results.joints)
    return np.concatenate([people.joint_PK2, people.score_PK[..., None]], axis=2)


def _results(
    path: Path,
    keypoint_NK3: np.ndarray,
    skeleton: Skeleton | None,
    *,
    rows: Sequence[int | None] = (),
    task: str = "",
    has_scores: bool = True,
) -> Results:
    near_NK1 = (np.abs(keypoint_NK3[..., :2]) < FAR).all(axis=2, keepdims=True)  # False for NaN
    joint_NK2 = np.where(near_NK1, keypoint_NK3[..., :2], np.nan)
    score_NK = np.nan_to_num(keypoint_NK3[..., 2])
    rows = rows or [None] * len(joint_NK2)
    images = [
        ImageResult(People(joint_K2[None], score_K[None], score_K.mean(keepdims=True)), row=row)
        for joint_K2, score_K, row in zip(joint_NK2, score_NK, rows, strict=True)
    ]
    joints = keypoint_NK3.shape[1]
    return Results(images, skeleton, joints, path, task=task, has_scores=has_scores)
