"""Leeds Sports Pose and its extension: `joints.mat` -> rows of people.

One person an image, images numbered from 1. N people, K joints in MPII order, J joints in LSP's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.data.formats.folders import FOLDERS
from pose.data.formats.matlab import read_mat
from pose.data.formats.person_table import (
    JOINTS,
    LSP_TEST,
    MPII,
    PERSON_HEIGHT,
    SOURCES,
    TRAIN,
    PersonTable,
    is_labelled,
)
from pose.io.errors import UserError
from pose.keypoints.skeleton import built_in, same_joints

ANNOTATIONS = "joints.mat"
LSP = built_in("lsp")
LSP_TO_MPII = same_joints(LSP, MPII)  # LSP has no pelvis and no thorax
# The table from which published training people had their centre and scale cannot be had: ours span the
# labelled joints.
SCALE_OVER_BOX = 1.1


def read_lsp(folder: str | Path) -> PersonTable:
    """LSP: joints (3, 14, N), third number 1 where OCCLUDED. The second half is the test set."""
    joint_NJ3 = _read_joints(folder, 3, len(LSP)).transpose(2, 1, 0)
    num_people = len(joint_NJ3)
    istrain_N = np.where(np.arange(num_people) < num_people // 2, TRAIN, LSP_TEST)
    return _table("lsp", 4, joint_NJ3[..., :2], 1.0 - joint_NJ3[..., 2], istrain_N)


def read_lspet(folder: str | Path) -> PersonTable:
    """LSPET: joints (14, 3, N), third number 1 where ANNOTATED; elsewhere x and y mean nothing."""
    joint_NJ3 = _read_joints(folder, len(LSP), 3).transpose(2, 0, 1)
    annotated_NJ = joint_NJ3[..., 2] > 0
    joint_NJ2 = np.where(annotated_NJ[..., None], joint_NJ3[..., :2], 0.0)
    return _table("lspet", 5, joint_NJ2, annotated_NJ, np.full(len(joint_NJ3), TRAIN))


def read_lsp_or_lspet(folder: str | Path) -> PersonTable:
    """Whichever of the two a `joints.mat` holds, which its axes tell."""
    joints = np.array(read_mat(Path(folder) / ANNOTATIONS, "joints", "an array 'joints' of numbers"))
    return read_lspet(folder) if joints.shape[:2] == (len(LSP), 3) else read_lsp(folder)


def _read_joints(folder: str | Path, *shape: int) -> np.ndarray:
    path = Path(folder) / ANNOTATIONS
    expected = f"an array 'joints' of numbers, of shape ({shape[0]}, {shape[1]}, N)"
    joints = np.array(read_mat(path, "joints", expected))
    if joints.ndim == 2:  # one person
        joints = joints[:, :, None]
    if joints.dtype.kind not in "fiub" or joints.ndim != 3 or joints.shape[:2] != shape:
        raise UserError(f"{path}: 'joints' holds {joints.dtype} of shape {joints.shape}, expected {expected}")
    return joints.astype(np.float64)


def _table(
    source: str, digits: int, joint_NJ2: np.ndarray, visible_NJ: np.ndarray, istrain_N: np.ndarray
) -> PersonTable:
    """Rows from joints in LSP order. Centre and scale come from the box of the labelled joints."""
    num_people = len(joint_NJ2)
    folder, numbers = FOLDERS[source][0], range(1, num_people + 1)
    part_NK2, visible_NK = np.zeros((num_people, JOINTS, 2)), np.zeros((num_people, JOINTS))
    part_NK2[:, LSP_TO_MPII], visible_NK[:, LSP_TO_MPII] = joint_NJ2, visible_NJ
    labelled_NK = is_labelled(part_NK2)
    part_NK2[~labelled_NK], visible_NK[~labelled_NK] = 0, 0
    low_N2 = np.where(labelled_NK[..., None], part_NK2, np.inf).min(axis=1)
    high_N2 = np.where(labelled_NK[..., None], part_NK2, -np.inf).max(axis=1)
    side_N = (high_N2 - low_N2).max(axis=1)
    has_box_N = side_N > 0
    centre_N2, scale_N = np.full((num_people, 2), np.nan), np.full(num_people, np.nan)
    centre_N2[has_box_N] = (low_N2 + high_N2)[has_box_N] / 2
    scale_N[has_box_N] = SCALE_OVER_BOX * side_N[has_box_N] / PERSON_HEIGHT
    return PersonTable(
        source_N=np.full(num_people, SOURCES.index(source), dtype=np.uint8),
        name_N=np.array([f"{folder}/images/im{number:0{digits}d}.jpg" for number in numbers]),
        centre_N2=centre_N2,
        scale_N=scale_N,
        part_NK2=part_NK2,
        visible_NK=visible_NK,
        istrain_N=istrain_N.astype(np.int64),
        head_size_N=np.full(num_people, np.nan),
        person_N=np.zeros(num_people, dtype=np.int64),
    )
