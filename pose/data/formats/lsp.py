"""Leeds Sports Pose and its extension.

`joints.mat` -> rows of people. One person an image, images numbered from 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.data.formats.person_table import (
    JOINTS,
    LSP_TEST,
    PERSON_HEIGHT,
    SOURCES,
    TRAIN,
    PersonTable,
    image_name,
)
from pose.io.errors import UserError
from pose.io.hdf5 import shown_shape
from pose.io.matlab import read_mat
from pose.keypoints.skeleton import LSP, LSP_TO_MPII

ANNOTATIONS = "joints.mat"
# The published centre and scale of training people came from a table that is not to be had: ours span the
# labelled joints.
SCALE_OVER_BOX = 1.1


def read_lsp(folder: str | Path) -> PersonTable:
    """LSP: joints (3, 14, N), all annotated, third number 1 where OCCLUDED.

    The first half trains, the second is the test set.
    """
    path = Path(folder) / ANNOTATIONS
    joint_3KN = _read_joints(path, (3, len(LSP), None))
    num_people = joint_3KN.shape[2]
    joint_NK3 = joint_3KN.transpose(2, 1, 0)
    visible_NK = 1.0 - joint_NK3[..., 2]
    istrain_N = np.where(np.arange(num_people) < num_people // 2, TRAIN, LSP_TEST)
    names = [image_name("lsp", f"images/im{number:04d}.jpg", path) for number in range(1, num_people + 1)]
    return _people("lsp", names, joint_NK3[..., :2], visible_NK, istrain_N)


def read_lspet(folder: str | Path) -> PersonTable:
    """LSPET: joints (14, 3, N), the axes the other way round; third number 1 where ANNOTATED, else x and y mean nothing."""
    path = Path(folder) / ANNOTATIONS
    joint_K3N = _read_joints(path, (len(LSP), 3, None))
    num_people = joint_K3N.shape[2]
    joint_NK3 = joint_K3N.transpose(2, 0, 1)
    annotated_NK = joint_NK3[..., 2] > 0
    joint_NK2 = np.where(annotated_NK[..., None], joint_NK3[..., :2], 0.0)
    names = [image_name("lspet", f"images/im{number:05d}.jpg", path) for number in range(1, num_people + 1)]
    return _people("lspet", names, joint_NK2, annotated_NK.astype(np.float64), np.full(num_people, TRAIN))


def _read_joints(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    expected = shown_shape(shape)
    joints = read_mat(path, "joints", f"an array 'joints' of shape {expected}")
    if joints.dtype.kind not in "fiub":
        raise UserError(f"{path}: 'joints' holds {joints.dtype}, expected numbers")
    if joints.ndim == 2:  # MATLAB drops a last axis of length one
        joints = joints[:, :, None]
    if joints.ndim != 3 or joints.shape[:2] != shape[:2] or joints.shape[2] == 0:
        raise UserError(f"{path}: 'joints' has shape {joints.shape}, expected {expected}")
    numbers: np.ndarray = joints.astype(np.float64)
    return numbers


def _people(
    source: str, names: list[str], joint_NK2: np.ndarray, visible_NK: np.ndarray, istrain_N: np.ndarray
) -> PersonTable:
    """Rows from joints in LSP order.

    Centre and scale come from the box of the labelled joints, NaN where there is no box.
    """
    num_people = len(names)
    part_NK2, visible_in_mpii_NK = np.zeros((num_people, JOINTS, 2)), np.zeros((num_people, JOINTS))
    part_NK2[:, LSP_TO_MPII], visible_in_mpii_NK[:, LSP_TO_MPII] = joint_NK2, visible_NK
    table = PersonTable(
        source_N=np.full(num_people, SOURCES.index(source), dtype=np.uint8),
        name_N=np.array(names, dtype=object),
        centre_N2=np.full((num_people, 2), np.nan),
        scale_N=np.full(num_people, np.nan),
        part_NK2=part_NK2,
        visible_NK=visible_in_mpii_NK,
        istrain_N=istrain_N.astype(np.int64),
        head_size_N=np.full(num_people, np.nan),
        person_N=np.zeros(num_people, dtype=np.int64),
    )
    labelled_NK = table.labelled_NK
    table.part_NK2[~labelled_NK] = 0
    table.visible_NK[~labelled_NK] = 0
    low_N2 = np.where(labelled_NK[..., None], part_NK2, np.inf).min(axis=1)
    high_N2 = np.where(labelled_NK[..., None], part_NK2, -np.inf).max(axis=1)
    side_N = (high_N2 - low_N2).max(axis=1)
    has_box_N = side_N > 0
    table.centre_N2[has_box_N] = (low_N2 + high_N2)[has_box_N] / 2
    table.scale_N[has_box_N] = SCALE_OVER_BOX * side_N[has_box_N] / PERSON_HEIGHT
    return table
