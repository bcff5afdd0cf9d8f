"""One affine for pixels and joints.

px: pixels of an image, zero-based, the centre of a pixel at whole numbers (as OpenCV counts), so that an
image of width W covers -0.5 .. W - 0.5. cell: cells of a heatmap, counted likewise. One cell covers `stride`
x `stride` pixels of the network's input, so cell = (px + 0.5) / stride - 0.5. Affines are (2, 3) float64
matrices acting on columns (x, y, 1).
"""

from __future__ import annotations

import math

import numpy as np

STRIDE = 4  # input pixels per heatmap cell, in every network here


def crop_affine(
    centre_xy: np.ndarray, side: float, size: int, *, angle: float = 0.0, flip: bool = False
) -> np.ndarray:
    """Affine from image pixels to the pixels of a square crop.

    centre_xy: middle of the crop, image px. side: its side in image px. size: its side in crop px. angle:
    degrees by which the image turns counter-clockwise as seen. flip: mirror left and right, after turning.
    """
    # Plain Python: on single numbers numpy is five times slower, and this is called for every sample.
    zoom, radians, mirror = size / side, math.radians(angle), -1.0 if flip else 1.0
    cos, sin = zoom * math.cos(radians), zoom * math.sin(radians)
    (x, y), middle = centre_xy, (size - 1) / 2
    xx, xy, yx, yy = mirror * cos, mirror * sin, -sin, cos  # y points down: counter-clockwise as seen
    return np.array([[xx, xy, middle - xx * x - xy * y], [yx, yy, middle - yx * x - yy * y]])


def zoomed(affine: np.ndarray, zoom: float, size: int) -> np.ndarray:
    """The affine whose square of `size` px shows everything `zoom` times as large, around the same middle."""
    moved = zoom * affine
    moved[:, 2] += (1 - zoom) * (size - 1) / 2
    return moved


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that applies `first`, then `second`."""
    affine = second[:, :2] @ first
    affine[:, 2] += second[:, 2]
    return affine


def invert(affine: np.ndarray) -> np.ndarray:
    """The affine that undoes `affine`; numpy.linalg.LinAlgError if it is singular."""
    (xx, xy, x), (yx, yy, y) = affine.tolist()
    determinant = xx * yy - xy * yx
    if determinant == 0:
        raise np.linalg.LinAlgError("singular affine")
    xx, xy, yx, yy = yy / determinant, -xy / determinant, -yx / determinant, xx / determinant
    return np.array([[xx, xy, -xx * x - xy * y], [yx, yy, -yx * x - yy * y]])


def transform(affine: np.ndarray, point_N2: np.ndarray) -> np.ndarray:
    """Points (..., 2) moved by an affine."""
    return np.asarray(point_N2) @ affine[:, :2].T + affine[:, 2]


def to_cell(point_px: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Input pixels -> heatmap cells."""
    return (point_px + 0.5) / stride - 0.5


def to_px(point_cell: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Heatmap cells -> input pixels."""
    return (point_cell + 0.5) * stride - 0.5
