"""One affine for pixels and joints.

Frames. px: pixels of an image, zero-based, the centre of a pixel at whole numbers (as OpenCV counts), so an image of width W
covers -0.5 .. W - 0.5. cell: cells of a heatmap, counted likewise. One cell covers `stride` x `stride` pixels of the network's
input, so cell = (px + 0.5) / stride - 0.5. Affines are (2, 3) float64 matrices acting on columns (x, y, 1).
"""

from __future__ import annotations

import numpy as np

STRIDE = 4  # input pixels per heatmap cell, in every network here


def crop_affine(centre_xy: np.ndarray, side: float, size: int, *, angle: float = 0.0, flip: bool = False) -> np.ndarray:
    """Affine from image pixels to the pixels of a square crop.

    centre_xy: middle of the crop, image px. side: its side in image px. size: its side in crop px. angle: degrees by which
    the picture turns counter-clockwise as seen. flip: mirror left and right, after turning.
    """
    zoom, radians = size / side, np.deg2rad(angle)
    cos, sin = zoom * np.cos(radians), zoom * np.sin(radians)
    linear = np.array([[cos, sin], [-sin, cos]])  # y points down: counter-clockwise as seen
    if flip:
        linear[0] = -linear[0]
    middle = (size - 1) / 2
    shift = np.array([middle, middle]) - linear @ np.asarray(centre_xy, dtype=np.float64)
    return np.column_stack([linear, shift])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that applies `first`, then `second`."""
    linear = second[:, :2] @ first[:, :2]
    return np.column_stack([linear, second[:, :2] @ first[:, 2] + second[:, 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """The affine that undoes `affine`; numpy.linalg.LinAlgError if it is singular."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def transform(affine: np.ndarray, point_N2: np.ndarray) -> np.ndarray:
    """Points (..., 2) moved by an affine."""
    return np.asarray(point_N2) @ affine[:, :2].T + affine[:, 2]


def to_cell(point_px: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Input pixels -> heatmap cells."""
    return (point_px + 0.5) / stride - 0.5


def to_px(point_cell: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Heatmap cells -> input pixels."""
    return (point_cell + 0.5) * stride - 0.5
