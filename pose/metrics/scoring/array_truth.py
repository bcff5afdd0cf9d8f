"""Truth in arrays: `.npz`, and MPII's people as other projects have them, `gt_valid.mat` and `valid.h5`.

N people, K joints.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.matlab import read_mat
from pose.data.formats.mpii import HEAD_SIZE_OVER_DIAGONAL
from pose.data.formats.person_table import is_labelled
from pose.data.prepare.categories import Joints
from pose.io.errors import UserError, reading
from pose.io.hdf5 import read_number_column
from pose.keypoints.skeleton import built_in
from pose.metrics.scoring.truth import Truth, annotated_people, unnamed_images

SIZES = ("head_size", "reference_length", "image")


def read_arrays(path: Path, joints: Joints) -> Truth:
    """Arrays joints (N, K, 2 or 3), px and whether it is labelled; head_size, reference_length, image (N,).

    image: a number or name that people of the same image share.
    """
    with reading(path, "arrays of numpy"), np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    keypoint = arrays.get("joints", np.empty(0))
    if keypoint.ndim != 3 or keypoint.shape[2] not in (2, 3) or keypoint.dtype.kind not in "fiu":
        found = f"{keypoint.dtype} of shape {keypoint.shape}" if "joints" in arrays else "none"
        raise UserError(f"{path}: joints: found {found}, expected numbers of shape (N, K, 2 or 3)")
    people, num_joints = keypoint.shape[:2]
    for name in SIZES:
        if name in arrays and arrays[name].shape != (people,):
            found = f"{name}: found shape {arrays[name].shape}"
            raise UserError(f"{path}: {found}, expected ({people},), one for each person of joints")
    skeleton = joints.skeleton
    if skeleton is None or len(skeleton) != num_joints:
        said = f"{len(skeleton)} in {skeleton.name}" if skeleton else "no names for them"
        raise UserError(f"{path}: found {num_joints} joints and {said}, expected --skeleton with as many")
    joint_NK2 = keypoint[..., :2].astype(np.float64)
    labelled_NK = np.isfinite(joint_NK2).all(axis=2)
    if keypoint.shape[2] == 3:
        labelled_NK &= keypoint[..., 2] > 0
    head_size_N, length_N = arrays.get("head_size"), arrays.get("reference_length")
    annotated = annotated_people(joint_NK2, labelled_NK, skeleton, head_size_N=head_size_N, length_N=length_N)
    images, image_N = unnamed_images(arrays.get("image", np.arange(people)))
    return Truth(path, annotated, images, image_N, {"people": np.arange(people)})


def read_gt_valid(path: Path) -> Truth:
    """MPII's validation people as HRNet and pytorch-pose have them, px counted from 1."""
    expected = "pos_gt_src (16, 2, N), jnt_missing (16, N) and headboxes_src (2, 2, N)"
    position, missing, box = (
        np.asarray(read_mat(path, name, expected)) for name in ("pos_gt_src", "jnt_missing", "headboxes_src")
    )
    if position.ndim == 2:  # MATLAB's reader drops the axis of a single person
        position, missing, box = (array[..., None] for array in (position, missing, box))
    people = position.shape[-1] if position.ndim else 0
    if (position.shape, missing.shape, box.shape) != ((16, 2, people), (16, people), (2, 2, people)):
        found = f"{position.shape}, {missing.shape} and {box.shape}"
        raise UserError(f"{path}: found shapes {found}, expected {expected}")
    with reading(path, f"numbers in {expected}"):
        head_size_N = HEAD_SIZE_OVER_DIAGONAL * np.linalg.norm(box[1] - box[0], axis=0)
        joint_NK2 = position.transpose(2, 0, 1).astype(np.float64) - 1
    return _mpii(path, joint_NK2, missing.T == 0, head_size_N, np.arange(people))


def read_mpii_h5(path: Path, file: h5py.File) -> Truth:
    """`valid.h5` of stacked-hourglass projects: part, normalize (the head size) and index, of the image.

    Px counted from 1.
    """
    size_N = read_number_column(file, "normalize", (None,))
    part_NK2 = read_number_column(file, "part", (len(size_N), 16, 2))
    index_N = read_number_column(file, "index", (len(size_N),))
    return _mpii(path, part_NK2 - 1, is_labelled(part_NK2), size_N, index_N)


def _mpii(
    path: Path, joint_NK2: np.ndarray, labelled_NK: np.ndarray, head_size_N: np.ndarray, image_N: np.ndarray
) -> Truth:
    no_length_N = np.full(len(image_N), np.nan)  # PCKh is for MPII
    people = annotated_people(
        joint_NK2, labelled_NK, built_in("mpii"), head_size_N=head_size_N, length_N=no_length_N
    )
    images, image_N = unnamed_images(image_N)
    return Truth(path, people, images, image_N, {"people": np.arange(len(image_N))})
