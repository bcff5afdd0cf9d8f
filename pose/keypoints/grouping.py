"""Tags to people: which peaks of an image's heatmaps belong to one person (associative embedding, arXiv 1611.05424).

Legend: K joints, h w heatmap cells, c cells of a map in one row (y * w + x), T tag dimensions (the tag of the
image, that of its mirror image, ...), N peaks of all joints, n peaks of one joint, P people, M missing
joints, m those of one kind.

Cell centres are at whole numbers, and a peak becomes a place as everywhere here (`pose.keypoints.heatmap`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from pose.keypoints.heatmap import located
from pose.keypoints.people import People
from pose.keypoints.skeleton import COCO, Skeleton

# Joints that are seldom hidden or confused come first: a person's mean tag is sound by the time it is needed.
ORDER = ("nose", "eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle")
# Rounded distances make assignments of equal cost common. Of those the one with the least distance is taken:
# this much of it is added to the cost, far less than a difference of scores that means anything. Where tags
# are poorly separated (COCO's people with tags 0.5 apart, noise 0.15) it brings the joints that end up with
# the right person from 86 to 94 of 100.
TIE = 1e-6

_SQUARE = np.ones((3, 3), dtype=np.uint8)
_SAMPLE = 128  # cells of each map by which the search for missing joints judges how high heatmaps are
_SCRATCH = 2**16  # numbers in each of its two scratch arrays, which stay in the processor's cache


@dataclass(frozen=True)
class GroupingParams:
    """What can be chosen. Defaults are the published values, but for `top` and `capped`, by which published code loses people.

    detection_threshold: a peak is higher than this. tag_threshold: a peak whose tag is this far (root mean
    square over the tag dimensions) from the mean tag of the person it goes to starts a person instead.
    rounding: distances count in multiples of this; what is left decides between equals only. top: at most so
    many peaks of one joint, the highest; at the published 30 a false peak beside 30 people costs one of them
    a joint. min_score: people below it are left out. refine: fill in missing joints. capped: what is too far
    apart costs no more than `tag_threshold`, however far. Otherwise (published) a peak whose person is not
    there yet goes to the nearest in tags, whose peak goes to the next: of 260 people in crowds with clear
    tags that makes 330. tags: False groups by distance in the picture alone, to show what tags are worth. The
    place of a cell, in units of `max_distance` (a share of the map's longer side), then stands for its tag:
    beyond `max_distance` from the middle of a person's joints another starts. `tag_threshold` and `rounding`
    are not looked at. target: the convention by which the network was taught, as in `pose.keypoints.heatmap`.
    """

    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    rounding: float = 1.0
    capped: bool = True
    top: int = 100
    min_score: float = 0.0
    refine: bool = True
    tags: bool = True
    max_distance: float = 0.5
    target: str = "subcell"


def group(
    heatmap_Khw: np.ndarray,
    tag_KhwT: np.ndarray | None,
    params: GroupingParams | None = None,
    *,
    skeleton: Skeleton = COCO,
) -> People:
    """The people of one image, however many, in heatmap cells; the surest first.

    heatmap_Khw: averaged over mirror image and scales; more than 1 counts as 1. tag_KhwT: not looked at if
    `params.tags` is False. The score of a joint is its heatmap's value. That of a person is the mean over the
    K joints, 0 where there was no peak: joints that `params.refine` filled in do not count.
    """
    params = params or GroupingParams()
    if not params.tags:
        params = replace(
            params, tag_threshold=1.0, rounding=0.01
        )  # places, unlike tags, mean something in every digit
    heatmap_Khw, tag_TKc = _checked(heatmap_Khw, tag_KhwT, params, skeleton)
    joints = len(heatmap_Khw)
    heatmap_Kc = heatmap_Khw.reshape(joints, -1)

    joint_N, cell_N = _peaks(heatmap_Khw, tag_TKc, params)
    score_N = np.minimum(heatmap_Kc[joint_N, cell_N], 1).astype(np.float64)
    tag_TN = tag_TKc[:, joint_N, cell_N].astype(np.float64)
    person_N, mean_TP = _people(joint_N, tag_TN, score_N, joint_order(skeleton.joints), params)

    people = mean_TP.shape[1]
    score_P = np.bincount(person_N, weights=score_N, minlength=people) / joints
    cell_PK = np.full((people, joints), -1)
    cell_PK[person_N, joint_N] = cell_N
    surest = np.argsort(-score_P, kind="stable")
    surest = surest[score_P[surest] >= params.min_score]
    score_P, cell_PK, mean_TP = score_P[surest], cell_PK[surest], mean_TP[:, surest]
    if params.refine:
        joint_M, person_M = np.nonzero(cell_PK.T < 0)
        cell_M = _best_cell(heatmap_Kc, tag_TKc, joint_M, mean_TP[:, person_M], params.detection_threshold)
        cell_PK[person_M, joint_M] = np.where(heatmap_Kc[joint_M, cell_M] > 0, cell_M, -1)
    return _located(heatmap_Khw, cell_PK, score_P, params.target)


@lru_cache
def joint_order(joints: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of these joints in the order in which they are grouped: that of `ORDER`, others last."""

    def rank(joint: int) -> int:
        return next((rank for rank, part in enumerate(ORDER) if joints[joint].endswith(part)), len(ORDER))

    return tuple(sorted(range(len(joints)), key=rank))


def _checked(
    heatmap_Khw: np.ndarray, tag_KhwT: np.ndarray | None, params: GroupingParams, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """The heatmaps, and the tags as (T, K, c): a view, whether T is first or last in memory."""
    heatmap_Khw = np.ascontiguousarray(heatmap_Khw, dtype=np.float32)
    if heatmap_Khw.ndim != 3 or len(heatmap_Khw) != len(skeleton) or heatmap_Khw.size == 0:
        raise ValueError(
            f"heatmaps: found shape {heatmap_Khw.shape}, expected ({len(skeleton)}, h, w): a map per joint of {skeleton.name}"
        )
    if not params.tags:
        tag_KhwT = _places(heatmap_Khw.shape, params.max_distance)
    if (
        tag_KhwT is None
        or tag_KhwT.ndim != 4
        or tag_KhwT.shape[:3] != heatmap_Khw.shape
        or tag_KhwT.shape[3] == 0
    ):
        found = None if tag_KhwT is None else tag_KhwT.shape
        raise ValueError(
            f"tags: found {found}, expected shape {heatmap_Khw.shape} as of the heatmaps, and T tags for each cell"
        )
    joints, h, w, dims = tag_KhwT.shape
    return heatmap_Khw, np.asarray(tag_KhwT, dtype=np.float32).transpose(3, 0, 1, 2).reshape(
        dims, joints, h * w
    )


def _places(shape: tuple[int, ...], max_distance: float) -> np.ndarray:
    """x and y of each cell, (K, h, w, 2), scaled so that the root mean square of a difference of `max_distance` times the longer side is 1."""
    _, h, w = shape
    y_hw, x_hw = np.indices((h, w), dtype=np.float32) * np.float32(2**0.5 / (max_distance * max(h, w)))
    return np.broadcast_to(np.stack([x_hw, y_hw], axis=2), (*shape, 2))


def _peaks(
    heatmap_Khw: np.ndarray, tag_TKc: np.ndarray, params: GroupingParams
) -> tuple[np.ndarray, np.ndarray]:
    """joint_N and cell_N: cells above the threshold that are the highest of their 3 x 3, joint by joint.

    Taken from the maps as they are: cut off at 1, a strong joint would be a plateau.
    """
    h, w = heatmap_Khw.shape[1:]
    peak_Khw = heatmap_Khw > params.detection_threshold
    dilated_hw = np.empty((h, w), dtype=np.float32)
    for joint in np.flatnonzero(peak_Khw.any(axis=(1, 2))):
        peak_Khw[joint] &= heatmap_Khw[joint] == cv2.dilate(heatmap_Khw[joint], _SQUARE, dst=dilated_hw)
    index_N = np.flatnonzero(peak_Khw)
    index_N = index_N[_first_of_equals(peak_Khw, index_N, tag_TKc, params.tag_threshold)]
    joint_N, cell_N = np.divmod(index_N, h * w)
    if len(joint_N) > params.top:
        score_N = heatmap_Khw.ravel()[index_N]
        rank_N = np.arange(len(joint_N)) - np.searchsorted(joint_N, joint_N)
        highest = np.sort(np.lexsort((-score_N, joint_N))[rank_N < params.top])
        joint_N, cell_N = joint_N[highest], cell_N[highest]
    return joint_N, cell_N


def _first_of_equals(
    peak_Khw: np.ndarray, index_N: np.ndarray, tag_TKc: np.ndarray, threshold: float
) -> np.ndarray:
    """keep_N: False for a peak that touches an earlier one of much the same tag.

    Index_N: into the flattened peak_Khw.

    Touching peaks are equally high: a joint halfway between cells, or numbers as coarse as bfloat16. That is
    one joint, and would else become part of two people, unless the tags say that it is two.
    """
    w = peak_Khw.shape[2]
    keep_N = np.ones(len(index_N), dtype=bool)
    beside_N4 = peak_Khw.ravel().take(index_N[:, None] - (1, w - 1, w, w + 1), mode="clip")
    suspect = np.flatnonzero(
        beside_N4.any(axis=1)
    )  # seldom any, and some of them only across the edge of a map
    if len(suspect) == 0:
        return keep_N
    joint_n, y_n, x_n = np.unravel_index(index_N[suspect], peak_Khw.shape)
    for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
        within_n = (y_n + dy >= 0) & (x_n + dx >= 0) & (x_n + dx < w)
        touching = np.flatnonzero(within_n & peak_Khw[joint_n, y_n + dy, (x_n + dx) % w])
        joint_t, cell_t = joint_n[touching], (y_n * w + x_n)[touching]
        difference_Tt = tag_TKc[:, joint_t, cell_t] - tag_TKc[:, joint_t, cell_t + dy * w + dx]
        keep_N[suspect[touching]] &= np.sqrt(np.square(difference_Tt).mean(axis=0)) >= threshold
    return keep_N


def _people(
    joint_N: np.ndarray,
    tag_TN: np.ndarray,
    score_N: np.ndarray,
    order_K: tuple[int, ...],
    params: GroupingParams,
) -> tuple[np.ndarray, np.ndarray]:
    """person_N, the person that each peak belongs to, and mean_TP, the mean tag of each person's peaks.

    joint_N is sorted. Joint by joint, peaks go to people at the least total cost, 100 * rounded distance -
    score. A peak that comes out too far from its person starts another, and so does one that is left over.
    """
    from scipy.optimize import linear_sum_assignment  # here, since training a single-person task needs none

    if not np.isfinite(tag_TN).all():
        raise ValueError("tags: found NaN or infinity at a peak, expected finite numbers")
    dims, count = tag_TN.shape
    person_N, people = np.full(count, -1), 0
    total_TP, peaks_P = np.zeros((dims, count)), np.zeros(count)
    first_K = np.searchsorted(joint_N, np.arange(len(order_K) + 1)).tolist()
    for joint in order_K:
        mine = slice(first_K[joint], first_K[joint + 1])
        person_n, tag_Tn = person_N[mine], tag_TN[:, mine]
        if people and len(person_n):
            mean_TP = total_TP[:, :people] / peaks_P[:people]
            difference_TnP = tag_Tn[:, :, None] - mean_TP[:, None]
            distance_nP = np.sqrt(np.add.reduce(difference_TnP * difference_TnP) / dims)
            apart_nP = np.minimum(distance_nP, params.tag_threshold) if params.capped else distance_nP
            cost_nP = (
                100 * params.rounding * np.rint(apart_nP / params.rounding)
                - score_N[mine, None]
                + TIE * apart_nP
            )
            row, column = linear_sum_assignment(cost_nP)
            near = distance_nP[row, column] < params.tag_threshold
            person_n[row[near]] = column[near]
        alone = (person_n < 0).nonzero()[0]
        if len(alone):
            person_n[alone] = np.arange(people, people + len(alone))
            people += len(alone)
        total_TP[:, person_n] += tag_Tn  # nobody is in person_n twice
        peaks_P[person_n] += 1
    return person_N, total_TP[:, :people] / peaks_P[:people]


def _best_cell(
    heatmap_Kc: np.ndarray, tag_TKc: np.ndarray, joint_M: np.ndarray, mean_TM: np.ndarray, threshold: float
) -> np.ndarray:
    """cell_M: where map joint_M of heatmap - rounded Euclidean distance of the tag from mean_TM is largest; the first of several.

    joint_M is sorted. Exact, though few cells are looked at: those that are not above some level hold nothing
    above it, so who finds more than the level among the others has found the best. Only the rest go through
    whole maps.
    """
    joints, cells = heatmap_Kc.shape
    cell_M, mean_TM = np.empty(len(joint_M), dtype=np.int64), mean_TM.astype(np.float32)
    if len(joint_M) == 0:
        return cell_M
    # Any level will do; this one leaves most people a few cells of their own beside the peaks of others.
    sample = heatmap_Kc[:, :: -(-cells // _SAMPLE)].ravel()
    above = 2 * int((sample > threshold).sum()) + len(sample) // 64
    rank = max(0, len(sample) - 1 - above)
    level = np.partition(sample, rank)[rank]
    scratch = np.empty((2, max(_SCRATCH, cells)), dtype=np.float32)
    first_K = np.searchsorted(joint_M, np.arange(joints + 1)).tolist()
    for joint in range(joints):
        unsure = np.arange(first_K[joint], first_K[joint + 1])
        if len(unsure) == 0:
            continue
        heatmap_c, tag_Tc = heatmap_Kc[joint], tag_TKc[:, joint]
        high = np.flatnonzero(heatmap_c > level)
        if len(high):
            at, value = _best(heatmap_c[high], [tag_c[high] for tag_c in tag_Tc], mean_TM[:, unsure], scratch)
            cell_M[unsure] = high[at]
            unsure = unsure[value <= level]
        if len(unsure):
            cell_M[unsure], _ = _best(heatmap_c, list(tag_Tc), mean_TM[:, unsure], scratch)
    return cell_M


def _best(
    heatmap_c: np.ndarray, tag_Tc: list[np.ndarray], mean_Tm: np.ndarray, scratch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """at_m and value_m: the largest heatmap - rounded distance for each mean tag.

    scratch: (2, at least c). Written step by step into memory that is there: fresh memory would cost more
    than the arithmetic.
    """
    cells, count = len(heatmap_c), mean_Tm.shape[1]
    capped_c = np.minimum(heatmap_c, 1)
    at_m, value_m = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.float32)
    for start in range(0, count, scratch.shape[1] // cells):
        mean_Ts = mean_Tm[:, start : start + scratch.shape[1] // cells]
        part = slice(start, start + mean_Ts.shape[1])
        value_sc, square_sc = scratch[:, : mean_Ts.shape[1] * cells].reshape(2, -1, cells)
        value_sc[:] = 0
        for tag_c, mean_s in zip(tag_Tc, mean_Ts, strict=True):
            np.subtract(tag_c, mean_s[:, None], out=square_sc)
            np.multiply(square_sc, square_sc, out=square_sc)
            value_sc += square_sc
        np.sqrt(value_sc, out=value_sc)
        np.rint(value_sc, out=value_sc)
        np.subtract(capped_c, value_sc, out=value_sc)
        at_m[part] = value_sc.argmax(axis=1)
        value_m[part] = value_sc[np.arange(len(value_sc)), at_m[part]]
    return at_m, value_m


def _located(heatmap_Khw: np.ndarray, cell_PK: np.ndarray, score_P: np.ndarray, target: str) -> People:
    """People from the cells of their joints, -1 where there is none."""
    person_N, joint_N = np.nonzero(cell_PK >= 0)
    cell_N = cell_PK[person_N, joint_N]
    joint_PK2 = np.full((*cell_PK.shape, 2), np.nan)
    joint_PK2[person_N, joint_N] = located(heatmap_Khw, joint_N, cell_N, target=target)
    score_PK = np.zeros(cell_PK.shape)
    score_PK[person_N, joint_N] = np.minimum(heatmap_Khw.take(joint_N * heatmap_Khw[0].size + cell_N), 1)
    return People(joint_PK2, score_PK, score_P)
