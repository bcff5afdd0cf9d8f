"""Rows of LSP, LSPET, MPII or a published `lsp_mpii.h5` as the content of a COCO-format file.

So that people of these sets are prepared as those of any other set are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats import lsp as raw_lsp
from pose.data.formats import mpii as raw_mpii
from pose.data.formats.lsp import LSP, LSP_TO_MPII
from pose.data.formats.person_table import (
    LSP_TEST,
    MPII,
    MPII_TEST,
    PERSON_HEIGHT,
    PersonTable,
    crop_centre,
    is_placed,
    zero_based,
)
from pose.data.formats.published_h5 import read_published
from pose.data.prepare.lsp_mpii import NOT_PLACED, match_by_index
from pose.data.prepare.normalise import FILLED
from pose.data.prepare.summary import Changes
from pose.keypoints.skeleton import Skeleton

Content = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The annotations of a file as the content of a COCO-format one.

    Each `file_name` is relative to the folder; of a published file: to the folder that it is in. listed: ids
    of the images that validate. changes: who is left out, and what decides who validates.
    """

    file: Path
    content: Content
    listed: set[int]
    skeleton: Skeleton
    changes: Changes


def read_table(path: Path) -> Table | None:
    """The annotations in a folder of LSP, LSPET or MPII, or in a published file; None if there are none."""
    skeleton, validates, changes = MPII, None, Changes()
    listing = raw_mpii.find_list(path)
    if path.suffix == ".h5":
        file, table = path, read_published(path)
        validates = table.istrain_N == LSP_TEST
    elif (file := path / raw_lsp.ANNOTATIONS).is_file():
        skeleton, table = LSP, raw_lsp.read_lsp_or_lspet(path)
        validates = table.istrain_N == LSP_TEST
    elif (file := path / raw_mpii.MAT).is_file():
        table = raw_mpii.read_mpii_mat(file)
        if listing:
            of_list, validates_M = raw_mpii.read_mpii_json(listing)
            row_N = match_by_index(table, of_list)
            validates = (row_N >= 0) & validates_M[row_N]
            _count(f"people who validate, by {listing.name}", validates, table, changes)
    elif listing:
        file = listing
        table, validates = raw_mpii.read_mpii_json(file)
    else:
        return None
    is_secret_N = table.istrain_N == MPII_TEST
    usable_N = is_placed(table.centre_N2, table.scale_N) & ~is_secret_N
    _count("people of MPII's test set, left out", is_secret_N, table, changes)
    _count(f"people with {NOT_PLACED}, left out", ~usable_N & ~is_secret_N, table, changes)
    names = table.name_N if file == path else [name.partition("/")[2] for name in table.name_N]
    content = _content(table, names, usable_N, skeleton)
    ids = _image_ids(table)
    listed = set() if validates is None else set(ids[validates].tolist())
    return Table(file, content, listed, skeleton, changes)


def _count(kind: str, is_N: np.ndarray, table: PersonTable, changes: Changes) -> None:
    if is_N.any():
        changes.add(kind, str(table.name_N[is_N.argmax()]), int(is_N.sum()))


def _image_ids(table: PersonTable) -> np.ndarray:
    """(N,) the number of each person's image, from 1 in the order of the table."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(name, len(number) + 1) for name in table.name_N])


def _content(table: PersonTable, names: Any, usable_N: np.ndarray, skeleton: Skeleton) -> Content:
    """One category, the people who are usable, and their images. Boxes are squares of people's height."""
    places = LSP_TO_MPII if skeleton is LSP else np.arange(len(MPII))
    labelled_NK = table.labelled_NK[:, places]
    flag_NK = np.where(labelled_NK, 1 + (table.visible_NK[:, places] > 0), 0)
    joint_NK2 = zero_based(table.source_N, table.part_NK2[:, places])
    joint_NK2 = np.where(labelled_NK[..., None], joint_NK2, 0.0)
    centre_N2 = crop_centre(table.source_N, table.centre_N2, table.scale_N)
    side_N = PERSON_HEIGHT * table.scale_N
    image_N = _image_ids(table)
    annotations = []
    for row in np.flatnonzero(usable_N).tolist():
        keypoints = np.column_stack([joint_NK2[row], flag_NK[row]])
        corner_xy = centre_N2[row] - (side_N[row] - 1) / 2  # a box covers whole pixels
        annotation = {
            "id": row + 1,
            "image_id": int(image_N[row]),
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": keypoints.ravel().tolist(),
            "bbox": [*corner_xy.tolist(), float(side_N[row]), float(side_N[row])],
            "area": _area(joint_NK2[row][labelled_NK[row]]),
            "num_keypoints": int(labelled_NK[row].sum()),
        }
        if table.head_size_N[row] > 0:
            annotation["head_size"] = float(table.head_size_N[row])
        annotations.append(annotation)
    # Those alone in which somebody's place is known: who is in the others is secret, not nobody.
    images = dict(zip(image_N[usable_N].tolist(), np.asarray(names)[usable_N].tolist(), strict=True))
    return {
        "images": [{"id": number, "file_name": str(name)} for number, name in images.items()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": [*skeleton.joints], "skeleton": []}],
    }


def _area(joint_k2: np.ndarray) -> float:
    width, height = np.ptp(joint_k2, axis=0) if len(joint_k2) else (0.0, 0.0)
    return max(1.0, FILLED * float(width * height))
