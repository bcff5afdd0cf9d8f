"""Grouping heatmap peaks into people by their tags (associative embedding, arXiv 1611.05424).

Legend: K joints, h w heatmap cells, c cells of a map in one row (y * w + x), T tag dimensions (the tag of the
image, that of its mirror image, ...), N peaks of all joints, n peaks of one joint, P people, M missing
joints, m those of one kind. Cell centres are at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose.keypoints.heatmap import peak_positions
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton

# Peaks of one joint that are used, the highest. With the published 30, a false peak beside 30 people costs
# one of them a joint.
MAX_PEAKS = 100
# Matching costs use rounded distances, as published. Positions in the image are rounded less than tags.
TAG_ROUNDING, POSITION_ROUNDING = 1.0, 0.01
# Rounding makes assignments of equal cost common. This share of the unrounded distance, far less than any
# difference of scores, decides between them: where tags are poorly separated, 94 instead of 86 of 100 joints
# then end up with the right person (COCO's people, tags 0.5 apart, noise 0.15).
TIE_BREAK = 1e-6


@dataclass(frozen=True)
class GroupingParams:
    """How peaks are grouped. The defaults are the published values.

    detection_threshold: a peak is higher than this. tag_threshold: a peak whose tag differs by this much
    (root mean square over the tag dimensions) from a person's mean tag is not theirs. max_distance: the same
    without tags, from the middle of a person's joints, as a share of the map's longer side. refine: fill in
    missing joints; with `subcell` from the highest cell beside the one that fits best (AP 0.427 -> 0.431 and
    0.430 -> 0.437 on the demo). target: the convention by which the network was trained, see
    `pose.keypoints.heatmap`.
    """

    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    max_distance: float = 0.5
    refine: bool = True
    target: str = "subcell"


def group(
    heatmap_Khw: np.ndarray,
    tag_KhwT: np.ndarray | None,
    params: GroupingParams | None = None,
    *,
    skeleton: Skeleton,
) -> People:
    """The people of one image in heatmap cells, sorted by falling score.

    heatmap_Khw: mean over mirror image and scales; values above 1 count as 1. tag_KhwT: None groups by
    distance in the image, to show what tags are worth. A joint's score is its heatmap's value; a person's is
    the mean over all K joints, 0 for those without a peak, so that joints filled in by `refine` do not count.
    """
    params, threshold, rounding = params or GroupingParams(), 1.0, POSITION_ROUNDING
    heatmap_Khw = np.ascontiguousarray(heatmap_Khw, dtype=np.float32)
    joints, h, w = heatmap_Khw.shape
    if joints != len(skeleton):
        raise ValueError(f"found {joints} heatmaps, expected one for each joint of {skeleton.name}")
    if tag_KhwT is not None:
        threshold, rounding = params.tag_threshold, TAG_ROUNDING
    else:  # x and y, on a scale where a root mean square difference of 1 is `max_distance`
        scale = np.float32(2**0.5 / (params.max_distance * max(h, w)))
        y_hw, x_hw = np.indices((h, w), dtype=np.float32) * scale
        tag_KhwT = np.broadcast_to(np.stack([x_hw, y_hw], axis=2), (joints, h, w, 2))
    heatmap_Kc = heatmap_Khw.reshape(joints, h * w)
    tag_TKc = np.asarray(tag_KhwT, dtype=np.float32).transpose(3, 0, 1, 2).reshape(-1, joints, h * w)

    joint_N, cell_N = _peaks(heatmap_Khw, tag_TKc, params.detection_threshold, threshold)
    score_N = np.minimum(heatmap_Kc[joint_N, cell_N], 1).astype(np.float64)
    tag_TN = tag_TKc[:, joint_N, cell_N].astype(np.float64)
    person_N, mean_TP = _match(
        joint_N, tag_TN, score_N, skeleton.order, threshold=threshold, rounding=rounding
    )

    people = mean_TP.shape[1]
    score_P = np.bincount(person_N, weights=score_N, minlength=people) / joints
    cell_PK = np.full((people, joints), -1)
    cell_PK[person_N, joint_N] = cell_N
    by_score = np.argsort(-score_P, kind="stable")
    score_P, cell_PK, mean_TP = score_P[by_score], cell_PK[by_score], mean_TP[:, by_score]
    if params.refine:
        joint_M, person_M = np.nonzero(cell_PK.T < 0)
        mean_TM = mean_TP[:, person_M]
        cell_M = _best_cell(heatmap_Kc, tag_TKc, joint_M, mean_TM, params.detection_threshold)
        if params.target == "subcell":  # not as published
            place = {"width": w, "threshold": threshold}
            cell_M = _summit(heatmap_Kc, tag_TKc, joint_M, cell_M, mean_TM, **place)
        cell_PK[person_M, joint_M] = np.where(heatmap_Kc[joint_M, cell_M] > 0, cell_M, -1)

    person_N, joint_N = np.nonzero(cell_PK >= 0)
    cell_N = cell_PK[person_N, joint_N]
    joint_PK2, score_PK = np.full((people, joints, 2), np.nan), np.zeros((people, joints))
    joint_PK2[person_N, joint_N] = peak_positions(heatmap_Khw, joint_N, cell_N, target=params.target)
    score_PK[person_N, joint_N] = np.minimum(heatmap_Kc[joint_N, cell_N], 1)
    return People(joint_PK2, score_PK, score_P)


def _peaks(
    heatmap_Khw: np.ndarray, tag_TKc: np.ndarray, detection_threshold: float, tag_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """joint_N (sorted) and cell_N: cells above the threshold that are the highest of their 3 x 3."""
    h, w = heatmap_Khw.shape[1:]
    peak_Khw = heatmap_Khw > detection_threshold
    square, dilated_hw = np.ones((3, 3), dtype=np.uint8), np.empty((h, w), dtype=np.float32)
    for joint in np.flatnonzero(peak_Khw.any(axis=(1, 2))):
        # Not cut off at 1, where a strong joint would be a plateau.
        peak_Khw[joint] &= heatmap_Khw[joint] == cv2.dilate(heatmap_Khw[joint], square, dst=dilated_hw)
    index_N = np.flatnonzero(peak_Khw)
    index_N = index_N[~_is_duplicate(peak_Khw, index_N, tag_TKc, tag_threshold)]
    joint_N, cell_N = np.divmod(index_N, h * w)
    if len(joint_N) > MAX_PEAKS:
        score_N = heatmap_Khw.ravel()[index_N]
        rank_N = np.arange(len(joint_N)) - np.searchsorted(joint_N, joint_N)
        highest = np.sort(np.lexsort((-score_N, joint_N))[rank_N < MAX_PEAKS])
        joint_N, cell_N = joint_N[highest], cell_N[highest]
    return joint_N, cell_N


def _is_duplicate(
    peak_Khw: np.ndarray, index_N: np.ndarray, tag_TKc: np.ndarray, tag_threshold: float
) -> np.ndarray:
    """(N,) bool: peaks that touch an earlier one of a similar tag. index_N: into the flattened peak_Khw.

    Touching peaks are equally high: a joint halfway between cells, or values as coarse as bfloat16. Unless
    their tags differ that is one joint, which would otherwise become part of two people.
    """
    w = peak_Khw.shape[2]
    duplicate_N = np.zeros(len(index_N), dtype=bool)
    beside_N4 = peak_Khw.ravel().take(index_N[:, None] - (1, w - 1, w, w + 1), mode="clip")
    suspect = np.flatnonzero(beside_N4.any(axis=1))  # rarely any; some only across the edge of a map
    if len(suspect) == 0:
        return duplicate_N
    joint_n, y_n, x_n = np.unravel_index(index_N[suspect], peak_Khw.shape)
    for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
        within_n = (y_n + dy >= 0) & (x_n + dx >= 0) & (x_n + dx < w)
        touching = np.flatnonzero(within_n & peak_Khw[joint_n, y_n + dy, (x_n + dx) % w])
        joint_t, cell_t = joint_n[touching], (y_n * w + x_n)[touching]
        difference_Tt = tag_TKc[:, joint_t, cell_t] - tag_TKc[:, joint_t, cell_t + dy * w + dx]
        duplicate_N[suspect[touching]] |= np.sqrt(np.square(difference_Tt).mean(axis=0)) < tag_threshold
    return duplicate_N


def _match(
    joint_N: np.ndarray,
    tag_TN: np.ndarray,
    score_N: np.ndarray,
    order_K: tuple[int, ...],
    *,
    threshold: float,
    rounding: float,
) -> tuple[np.ndarray, np.ndarray]:
    """person_N, the person of each peak, and mean_TP, the mean tag of each person's peaks.

    Joint by joint, peaks are assigned to people at the least total cost, 100 * rounded distance - score. A
    peak that is left over or too far from its person starts another. Distances are capped at the threshold:
    otherwise (as published) a peak whose person is not there yet takes the nearest person, whose own peak
    takes the next, and 260 people in crowds with clear tags become 330.
    """
    from scipy.optimize import linear_sum_assignment  # here: single-person tasks do without scipy

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
            capped_nP = np.minimum(distance_nP, threshold)
            rounded_nP = 100 * rounding * np.rint(capped_nP / rounding)
            cost_nP = rounded_nP - score_N[mine, None] + TIE_BREAK * capped_nP
            row, column = linear_sum_assignment(cost_nP)
            near = distance_nP[row, column] < threshold
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
    """cell_M: the cell of map joint_M where heatmap - rounded distance of the tag from mean_TM is largest.

    joint_M is sorted. The first of equal cells. Exact, though few cells are looked at: a cell below some
    level cannot bring more than the level, so only who finds no more among the higher ones needs all cells.
    """
    joints, cells = heatmap_Kc.shape
    cell_M, mean_TM = np.empty(len(joint_M), dtype=np.int64), mean_TM.astype(np.float32)
    if len(joint_M) == 0:
        return cell_M
    # Any level will do; this one, estimated from 128 cells of each map, leaves a few cells beside the peaks.
    sample = heatmap_Kc[:, :: -(-cells // 128)].ravel()
    above = 2 * int((sample > threshold).sum()) + len(sample) // 64
    rank = max(0, len(sample) - 1 - above)
    level = np.partition(sample, rank)[rank]
    first_K = np.searchsorted(joint_M, np.arange(joints + 1)).tolist()
    for joint in range(joints):
        unsure = np.arange(first_K[joint], first_K[joint + 1])
        if len(unsure) == 0:
            continue
        heatmap_c, tag_Tc = heatmap_Kc[joint], tag_TKc[:, joint]
        high = np.flatnonzero(heatmap_c > level)
        if len(high):
            at, value = _best(heatmap_c[high], tag_Tc[:, high], mean_TM[:, unsure])
            cell_M[unsure] = high[at]
            unsure = unsure[value <= level]
        if len(unsure):
            cell_M[unsure], _ = _best(heatmap_c, tag_Tc, mean_TM[:, unsure])
    return cell_M


def _summit(
    heatmap_Kc: np.ndarray,
    tag_TKc: np.ndarray,
    joint_M: np.ndarray,
    cell_M: np.ndarray,
    mean_TM: np.ndarray,
    *,
    width: int,
    threshold: float,
) -> np.ndarray:
    """(M,) the highest cell of the 3 x 3 around each whose tag is the person's, as far as `threshold` tells.

    Beside a summit tags may fit a little better. A summit of another tag is somebody else's joint.
    """
    height = heatmap_Kc.shape[1] // width
    y_9, x_9 = (offset_33.ravel() for offset_33 in np.indices((3, 3)) - 1)
    y_M9, x_M9 = (cell_M // width)[:, None] + y_9, (cell_M % width)[:, None] + x_9
    inside_M9 = (y_M9 >= 0) & (y_M9 < height) & (x_M9 >= 0) & (x_M9 < width)
    near_M9 = y_M9.clip(0, height - 1) * width + x_M9.clip(0, width - 1)
    difference_TM9 = tag_TKc[:, joint_M[:, None], near_M9] - mean_TM[:, :, None]
    theirs_M9 = inside_M9 & (np.sqrt(np.square(difference_TM9).mean(axis=0)) < threshold)
    theirs_M9[:, len(y_9) // 2] = True  # the cell itself
    highest_M = np.where(theirs_M9, heatmap_Kc[joint_M[:, None], near_M9], -np.inf).argmax(axis=1)
    return near_M9[np.arange(len(cell_M)), highest_M]


def _best(heatmap_c: np.ndarray, tag_Tc: np.ndarray, mean_Tm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """at_m and value_m: the largest heatmap - rounded distance for each mean tag."""
    square_mc = np.zeros((mean_Tm.shape[1], len(heatmap_c)), dtype=np.float32)
    for tag_c, mean_m in zip(tag_Tc, mean_Tm, strict=True):
        square_mc += np.square(tag_c - mean_m[:, None])
    value_mc = np.minimum(heatmap_c, 1) - np.rint(np.sqrt(square_mc))
    at_m = value_mc.argmax(axis=1)
    return at_m, value_mc[np.arange(len(at_m)), at_m]
