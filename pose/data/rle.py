"""Regions of an image as run lengths, as COCO counts them: down the columns, one column after the other.

First the pixels outside the region, then those inside, and so on in turn. R runs, H W image px.
"""

from __future__ import annotations

import numpy as np


def runs_of(inside_HW: np.ndarray) -> np.ndarray:
    """The run lengths, uint32, of a region."""
    flat = inside_HW.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    first = [0] if flat[0] else []  # nothing outside before it
    return np.diff(np.concatenate([[0], first, edges, [len(flat)]])).astype(np.uint32)


def region_of(run_R: np.ndarray, height: int, width: int) -> np.ndarray:
    """The region (H, W) bool of run lengths; ValueError if these are not H x W pixels."""
    inside = np.repeat(np.arange(len(run_R)) % 2 == 1, run_R)
    return np.ascontiguousarray(inside.reshape(width, height).T)
