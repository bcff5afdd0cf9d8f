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
    if int(run_R.sum(dtype=np.uint64)) != height * width:
        raise ValueError(f"runs of {run_R.sum(dtype=np.uint64)} pixels, expected {height} x {width}")
    inside = np.repeat(np.arange(len(run_R)) % 2 == 1, run_R)
    return np.ascontiguousarray(inside.reshape(width, height).T)


def decompress(text: bytes) -> list[int]:
    """COCO's compressed run lengths; ValueError for damaged text.

    A character holds five bits of a number, the lowest first, and a sixth that is set where more follow. From
    the fourth on, a number is the difference to the one two places before. pycocotools has the same, but
    reads and writes beyond its memory if the text is damaged.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"character {chr(character)!r} in counts")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("counts end within a number")
    return counts
