"""Joints to heatmaps and back: the one place that knows the convention.

A joint at (x, y) cells, cell centres at whole numbers, becomes a Gaussian of peak 1 around (x, y): `subcell`. Published
weights were trained with `floor`: the Gaussian sits on the cell that holds the joint, so what the network answers lies half a cell
before the true place on average, and decoding adds that half cell back. In the frame used here (a cell's centre is a whole
number) a joint in cell c lies between c - 0.5 and c + 0.5, c on average: "plus half a cell" of codes that count from a cell's
corner is the conversion `geometry.to_px`, and decoding is the same for both conventions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def encode(
    joint_xy_cell: np.ndarray, labelled: np.ndarray, *, size: int, sigma: float, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of peak 1, and which joints have one.

    joint_xy_cell: (K, 2) in cells. labelled: (K,) bool. size: cells a side. sigma: cells.
    Returns heatmap_Khw float32 and inside_K bool: labelled and within the map; the map of any other joint is zero.
    """
    xy_K2 = np.where(labelled[:, None], joint_xy_cell, -1e6)
    inside_K = labelled & (xy_K2 >= -0.5).all(axis=1) & (xy_K2 < size - 0.5).all(axis=1)
    if target == "floor":
        xy_K2 = np.floor(xy_K2 + 0.5)
    # A Gaussian is the product of one over x and one over y: two (K, size) tables instead of K * size * size exponentials.
    table_K2c = np.exp((np.arange(size) - xy_K2[:, :, None]) ** 2 * (-0.5 / sigma**2)).astype(np.float32)
    table_K2c[~inside_K] = 0
    heatmap_Khw = table_K2c[:, 1, :, None] * table_K2c[:, 0, None, :]
    return heatmap_Khw, inside_K


def decode(heatmap_BKhw: Tensor) -> tuple[Tensor, Tensor]:
    """Peaks of heatmaps: the largest cell, moved a quarter cell towards its larger neighbour in x and in y.

    Returns joint_BK2 in cells (x, y) and score_BK, the peak's value. A tie between the neighbours, or a peak on the border,
    is not moved.
    """
    h, w = heatmap_BKhw.shape[-2:]
    score_BK, peak_BK = heatmap_BKhw.flatten(2).max(dim=2)
    x_BK, y_BK = peak_BK % w, torch.div(peak_BK, w, rounding_mode="floor")

    def shift(step_x: int, step_y: int, room_BK: Tensor) -> Tensor:
        flat = heatmap_BKhw.flatten(2)
        step = step_y * w + step_x
        after = flat.gather(2, (peak_BK + step).clamp(0, h * w - 1)[:, :, None])[:, :, 0]
        before = flat.gather(2, (peak_BK - step).clamp(0, h * w - 1)[:, :, None])[:, :, 0]
        return 0.25 * torch.sign(after - before) * room_BK

    x = x_BK + shift(1, 0, (x_BK > 0) & (x_BK < w - 1))
    y = y_BK + shift(0, 1, (y_BK > 0) & (y_BK < h - 1))
    return torch.stack([x, y], dim=2), score_BK


def flip_back(heatmap_BKhw: Tensor, flip_index: np.ndarray) -> Tensor:
    """Heatmaps of a mirrored image as heatmaps of the image: mirrored, left and right joints exchanged."""
    order = torch.as_tensor(flip_index, device=heatmap_BKhw.device)
    return heatmap_BKhw.flip(-1)[:, order]
