"""Joints to heatmaps and back: the one place that knows the convention.

A joint at (x, y) cells, cell centres at whole numbers, becomes a Gaussian of peak 1 around (x, y): `subcell`.
What lies between cells is read from the logarithms of the highest cell and its neighbours, exactly, for they
are those of a parabola. Published weights were trained with `floor`: the Gaussian sits on the cell that holds
the joint, so what the network answers lies half a cell before the true place on average, and decoding adds
that half cell back. In the frame used here (a cell's centre is a whole number) a joint in cell c lies between
c - 0.5 and c + 0.5, c on average: "plus half a cell" of codes that count from a cell's corner is the
conversion `geometry.to_px`. Such a peak moves by the published quarter of a cell and no more.

Legend: B images, P people, K joints, M maps, h w heatmap cells, c cells of a map in one row (y * w + x), N
peaks.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

REACH = (
    3.0  # of several people's targets each ends this many sigmas from its joint, where it is down to 0.011
)
# A neighbour counts as at least this share of its peak, for what noise leaves, or a negative number, has no
# logarithm to go by. Gaussians that fall off more steeply, those of sigma < 0.47, are no longer found
# exactly.
LOWEST = 0.01


def encode(
    joint_xy_cell: np.ndarray, labelled: np.ndarray, *, size: int, sigma: float, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of peak 1, and which joints have one.

    joint_xy_cell: (K, 2) in cells. labelled: (K,) bool. size: cells a side. sigma: cells. Returns heatmap_Khw
    float32 and inside_K bool: labelled and within the map; the map of any other joint is zero.
    """
    centre_K2, _, inside_K = _placed(joint_xy_cell, labelled, size, target)
    # A Gaussian is the product of one over x and one over y: two (K, size) tables instead of K * size * size
    # exponentials.
    table_K2c = np.exp((np.arange(size) - centre_K2[:, :, None]) ** 2 * (-0.5 / sigma**2)).astype(np.float32)
    table_K2c[~inside_K] = 0
    heatmap_Khw = table_K2c[:, 1, :, None] * table_K2c[:, 0, None, :]
    return heatmap_Khw, inside_K


def encode_people(
    joint_xy_cell: np.ndarray, labelled_PK: np.ndarray, *, size: int, sigma: float, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of peak 1, the larger one where two people's meet, and the cells that hold their peaks.

    joint_xy_cell: (P, K, 2) in cells. Otherwise as in `encode`, whose maps these are for one person but for
    their tails, which end REACH sigmas from the joint: only a window is computed. Returns heatmap_Khw float32
    and cell_PK int64: y * w + x, -1 for a joint that is unlabelled or outside the map.
    """
    centre_PK2, cell_xy_PK2, inside_PK = _placed(joint_xy_cell, labelled_PK, size, target)
    reach = int(np.ceil(REACH * sigma))
    window = np.arange(-reach, reach + 1)
    heatmap_Khw = np.zeros(
        (labelled_PK.shape[1], size + 2 * reach, size + 2 * reach), dtype=np.float32
    )  # with a margin for windows
    for inside_K, cell_xy_K2, centre_K2 in zip(inside_PK, cell_xy_PK2, centre_PK2, strict=True):
        joint_J = np.flatnonzero(inside_K)  # of different maps, so that no two of these windows meet
        place_J2D = cell_xy_K2[joint_J, :, None] + window
        side_J2D = np.exp((place_J2D - centre_K2[joint_J, :, None]) ** 2 * (-0.5 / sigma**2)).astype(
            np.float32
        )
        at = joint_J[:, None, None], place_J2D[:, 1, :, None] + reach, place_J2D[:, 0, None, :] + reach
        heatmap_Khw[at] = np.maximum(heatmap_Khw[at], side_J2D[:, 1, :, None] * side_J2D[:, 0, None, :])
    cell_PK = np.where(inside_PK, cell_xy_PK2[..., 1] * size + cell_xy_PK2[..., 0], -1)
    return np.ascontiguousarray(heatmap_Khw[:, reach : reach + size, reach : reach + size]), cell_PK


def _placed(
    joint_xy_cell: np.ndarray, labelled: np.ndarray, size: int, target: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the Gaussians' centres are, the cells (x, y) that hold the joints, and which joints have one within the map."""
    xy = np.where(labelled[..., None], joint_xy_cell, -1e6)
    cell_xy = np.floor(xy + 0.5).astype(np.int64)
    inside = labelled & ((cell_xy >= 0) & (cell_xy < size)).all(axis=-1)
    return (cell_xy if target == "floor" else xy), cell_xy, inside


def decode(heatmap_BKhw: Tensor, *, target: str = "subcell") -> tuple[Tensor, Tensor]:
    """Peaks of heatmaps: joint_BK2 in cells (x, y), see `located`, and score_BK, the value of the largest cell."""
    score_BK, cell_BK = heatmap_BKhw.flatten(2).max(dim=2)
    cell_M = cell_BK.flatten()
    joint_M2 = located(
        heatmap_BKhw.flatten(0, 1).float(),
        torch.arange(len(cell_M), device=cell_M.device),
        cell_M,
        target=target,
    )
    return joint_M2.unflatten(0, cell_BK.shape), score_BK


def located(heatmap_Mhw: Array, map_N: Array, cell_N: Array, *, target: str = "subcell") -> Array:
    """The places (N, 2), x and y in cells, of peaks whose highest cells are cell_N of the maps map_N.

    `subcell`: the summit of the parabola through the logarithms of the cell and its two neighbours, in x and
    in y, at most half a cell away (exact for a Gaussian; arXiv 1910.06278 does the same by derivatives).
    `floor`: a quarter cell towards the larger neighbour. A cell on the border is not moved across it, nor
    along any line on which its neighbours are equal.
    """
    maths: Any = np if isinstance(heatmap_Mhw, np.ndarray) else torch
    h, w = heatmap_Mhw.shape[1:]
    x_N, y_N = cell_N % w, cell_N // w
    step_2N = maths.stack([1 * ((x_N > 0) & (x_N < w - 1)), w * ((y_N > 0) & (y_N < h - 1))])
    index_N = map_N * (h * w) + cell_N
    before_2N, after_2N = heatmap_Mhw.take(index_N - step_2N), heatmap_Mhw.take(index_N + step_2N)
    if target == "floor":
        moved_2N = 0.25 * maths.sign(after_2N - before_2N)
    else:
        peak_N = heatmap_Mhw.take(index_N).clip(1e-9)
        before_2N, after_2N = (
            maths.log((value_2N / peak_N).clip(LOWEST)) for value_2N in (before_2N, after_2N)
        )
        bend_2N = (before_2N + after_2N).clip(
            None, -1e-9
        )  # 0 on a plateau, and above where the cell is no peak
        moved_2N = (0.5 * (before_2N - after_2N) / bend_2N).clip(-0.5, 0.5)
    place_2N: Array = maths.stack([x_N, y_N]) + moved_2N
    return place_2N.T


def flip_back(heatmap_BKhw: Tensor, flip_index: np.ndarray) -> Tensor:
    """Heatmaps of a mirrored image as heatmaps of the image: mirrored, left and right joints exchanged."""
    order = torch.as_tensor(flip_index, device=heatmap_BKhw.device)
    return heatmap_BKhw.flip(-1)[:, order]
