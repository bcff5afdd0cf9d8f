"""Joints to heatmaps and back: the one place that knows the conventions.

A joint at (x, y) cells, cell centres at whole numbers, becomes a Gaussian of peak 1 around (x, y): `subcell`.
Positions between cells are read from the logarithms of the highest cell and its neighbours, which for a
Gaussian lie on a parabola. Published weights were trained with `floor`: the Gaussian sits on the cell that
holds the joint. In the frame used here cell c covers c - 0.5 to c + 0.5, so c is right on average; the half
cell that published decoders add, because they count from a cell's corner, is part of `geometry.to_px`. Such
a peak moves by the published quarter of a cell and no more.

Decoding takes NumPy arrays and tensors; torch is imported for tensors only, so that exported networks run
without it.

Legend: B images, P people, K joints, M maps, h w heatmap cells, c cells of a map in one row (y * w + x), N
peaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", np.ndarray, Tensor)

CUTOFF = 3.0  # sigmas from a joint at which its Gaussian ends (at 0.011) in the targets of several people
# A neighbour counts as at least this share of its peak, because noise and negative numbers have no usable
# logarithm. Gaussians of sigma < 0.47, which fall off more steeply, are no longer decoded exactly.
MIN_SHARE = 0.01


def encode(
    joint_xy_cell: np.ndarray, labelled: np.ndarray, *, size: int, sigma: float, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of one person: heatmap_Khw, float32 Gaussians of peak 1, and inside_K, bool.

    joint_xy_cell: (K, 2) in cells. labelled: (K,) bool. size: cells a side. sigma: cells. inside_K: labelled
    and within the map; the maps of other joints are zero.
    """
    centre_K2, _, inside_K = _centres(joint_xy_cell, labelled, size, target)
    # A Gaussian is the product of one over x and one over y: 2 * size exponentials instead of size * size.
    table_K2c = np.exp((np.arange(size) - centre_K2[:, :, None]) ** 2 * (-0.5 / sigma**2)).astype(np.float32)
    table_K2c[~inside_K] = 0
    heatmap_Khw = table_K2c[:, 1, :, None] * table_K2c[:, 0, None, :]
    return heatmap_Khw, inside_K


def encode_people(
    joint_xy_cell: np.ndarray, labelled_PK: np.ndarray, *, size: int, sigma: float, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of several people: heatmap_Khw, the maximum over their Gaussians, and cell_PK.

    joint_xy_cell: (P, K, 2) in cells. As `encode`, but a Gaussian ends CUTOFF sigmas from its joint. cell_PK:
    int64, the cell y * w + x of each joint, -1 where it is unlabelled or outside the map.
    """
    centre_PK2, cell_xy_PK2, inside_PK = _centres(joint_xy_cell, labelled_PK, size, target)
    radius = int(np.ceil(CUTOFF * sigma))
    window = np.arange(-radius, radius + 1)
    side = size + 2 * radius  # with a margin for windows
    heatmap_Khw = np.zeros((labelled_PK.shape[1], side, side), dtype=np.float32)
    for inside_K, cell_xy_K2, centre_K2 in zip(inside_PK, cell_xy_PK2, centre_PK2, strict=True):
        joint_J = np.flatnonzero(inside_K)  # of different maps, so that no two of these windows meet
        place_J2D = cell_xy_K2[joint_J, :, None] + window
        square_J2D = (place_J2D - centre_K2[joint_J, :, None]) ** 2
        table_J2D = np.exp(square_J2D * (-0.5 / sigma**2)).astype(np.float32)
        at = joint_J[:, None, None], place_J2D[:, 1, :, None] + radius, place_J2D[:, 0, None, :] + radius
        heatmap_Khw[at] = np.maximum(heatmap_Khw[at], table_J2D[:, 1, :, None] * table_J2D[:, 0, None, :])
    cell_PK = np.where(inside_PK, cell_xy_PK2[..., 1] * size + cell_xy_PK2[..., 0], -1)
    return np.ascontiguousarray(heatmap_Khw[:, radius : radius + size, radius : radius + size]), cell_PK


def _centres(
    joint_xy_cell: np.ndarray, labelled: np.ndarray, size: int, target: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of the Gaussians, the cells (x, y) that hold the joints, and which are within the map."""
    xy = np.where(labelled[..., None], joint_xy_cell, -1e6)
    cell_xy = np.floor(xy + 0.5).astype(np.int64)
    inside = labelled & ((cell_xy >= 0) & (cell_xy < size)).all(axis=-1)
    return (cell_xy if target == "floor" else xy), cell_xy, inside


def decode(heatmap_BKhw: Array, *, target: str = "subcell") -> tuple[Array, Array]:
    """joint_BK2, the peak of each map in cells (x, y), and score_BK, the value of its highest cell."""
    lib, (B, K, h, w) = _library(heatmap_BKhw), heatmap_BKhw.shape
    heatmap_Nhw = lib.asarray(heatmap_BKhw, dtype=lib.float32).reshape(B * K, h, w)
    cell_N = heatmap_Nhw.reshape(B * K, h * w).argmax(1)
    map_N = lib.arange(B * K, device=cell_N.device)
    joint_N2 = peak_positions(heatmap_Nhw, map_N, cell_N, target=target)
    score_BK = heatmap_Nhw.take(map_N * (h * w) + cell_N).reshape(B, K)
    return joint_N2.reshape(B, K, 2), score_BK


def _library(array: Array) -> Any:
    """The module that calculates with such arrays."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def peak_positions(heatmap_Mhw: Array, map_N: Array, cell_N: Array, *, target: str = "subcell") -> Array:
    """(N, 2) x and y in cells of peaks whose highest cells are cell_N of the maps map_N.

    `subcell`: the vertex of the parabola through the logarithms of the cell and its two neighbours, in x and
    in y, at most half a cell away (exact for a Gaussian; arXiv 1910.06278 does the same by derivatives). A
    neighbour that is beyond the border, or that another peak raises, does not count: the other one and the
    curvature in the other direction give the same vertex. `floor`: a quarter cell towards the larger
    neighbour; a cell on the border is not moved.
    """
    lib = _library(heatmap_Mhw)
    h, w = heatmap_Mhw.shape[1:]
    x_N, y_N, first_N = cell_N % w, cell_N // w, map_N * (h * w)
    position_2N: Array = lib.stack([x_N, y_N])
    last_2N, stride_2N = lib.stack([0 * x_N + w - 1, 0 * y_N + h - 1]), lib.stack([0 * x_N + 1, 0 * y_N + w])

    def beside(offset: int) -> tuple[Any, Any]:
        """The map's values so many cells further, and whether that is within the map."""
        place_2N = position_2N + offset
        inside_2N = (place_2N >= 0) & (place_2N <= last_2N)
        return heatmap_Mhw.take(first_N + cell_N + inside_2N * offset * stride_2N), inside_2N

    peak_N = heatmap_Mhw.take(first_N + cell_N)
    (before_2N, has_before_2N), (after_2N, has_after_2N) = beside(-1), beside(1)
    if target == "floor":
        moved_2N = 0.25 * (has_before_2N & has_after_2N) * lib.sign(after_2N - before_2N)
        return (position_2N + moved_2N).T

    # Where the map rises again behind a neighbour, that one is part of another peak's slope.
    clean_before_2N = has_before_2N & (before_2N <= peak_N) & (beside(-2)[0] <= before_2N)
    clean_after_2N = has_after_2N & (after_2N <= peak_N) & (beside(2)[0] <= after_2N)
    before_2N = lib.log((before_2N / peak_N.clip(1e-9)).clip(MIN_SHARE))
    after_2N = lib.log((after_2N / peak_N.clip(1e-9)).clip(MIN_SHARE))
    # The curvature is 0 on a plateau, and positive where the cell is no peak.
    curvature_2N = (before_2N + after_2N).clip(None, -1e-9)
    moved_2N = 0.5 * (before_2N - after_2N) / curvature_2N * (has_before_2N & has_after_2N)
    across_2N, known_2N = curvature_2N[[1, 0]], (clean_before_2N & clean_after_2N)[[1, 0]]
    by_before_2N, by_after_2N = before_2N / across_2N - 0.5, 0.5 - after_2N / across_2N
    moved_2N = lib.where(known_2N & clean_before_2N & ~clean_after_2N, by_before_2N, moved_2N)
    moved_2N = lib.where(known_2N & clean_after_2N & ~clean_before_2N, by_after_2N, moved_2N)
    return (position_2N + moved_2N.clip(-0.5, 0.5)).T


def zoom_back(heatmap_BKhw: Tensor, zoom: float) -> Tensor:
    """Heatmaps of an image shown `zoom` times as large around the same middle, as those of the image.

    float32, linearly between cells; NaN in cells that the larger image does not show.
    """
    import torch
    from torch.nn import functional as F

    h, w = heatmap_BKhw.shape[-2:]
    x_w, y_h = (zoom * (2 * torch.arange(n, device=heatmap_BKhw.device) + 1 - n) / n for n in (w, h))
    grid_hw2 = torch.stack([x_w.expand(h, w), y_h[:, None].expand(h, w)], dim=-1)  # -1 .. 1 from edge to edge
    grid_Bhw2 = grid_hw2.expand(len(heatmap_BKhw), h, w, 2)
    zoomed_BKhw = F.grid_sample(heatmap_BKhw.float(), grid_Bhw2, padding_mode="border", align_corners=False)
    return zoomed_BKhw.masked_fill((grid_hw2.abs() > 1).any(dim=-1), torch.nan)


def flip_back(heatmap_BKhw: Array, flip_index: np.ndarray) -> Array:
    """Heatmaps of a mirrored image as heatmaps of the image: mirrored, left and right joints exchanged."""
    lib = _library(heatmap_BKhw)
    order = lib.asarray(flip_index, device=heatmap_BKhw.device)
    mirrored_BKhw: Array = lib.flip(heatmap_BKhw, (-1,))[:, order]
    return mirrored_BKhw
