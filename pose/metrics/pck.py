"""PCKh, PCK and area under the curve, of predictions made by anyone: plain arrays in, percent out.

Legend: N people, K joints, T thresholds. Predictions, truth and reference lengths share one frame (image px,
usually).

A joint is right at threshold t if it lies within t times its person's reference length of the truth: the head
size for PCKh (0.6 times the diagonal of MPII's head box), the torso for the PCK of LSP. A predicted NaN is a
wrong answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pose.keypoints.skeleton import Skeleton

if TYPE_CHECKING:  # imported where tables are made, since training needs none and pandas takes long
    import pandas as pd

Scores = dict[str, dict[str, float]]  # table -> metric -> percent (people: counts)

PCKH = 0.5  # the thresholds by which the tables of papers are made
PCKH_FINE = 0.1
PCK = 0.2
AUC_END = 0.5


def normalised_distance(
    predicted_NK2: np.ndarray, true_NK2: np.ndarray, labelled_NK: np.ndarray, reference_N: np.ndarray
) -> np.ndarray:
    """Distance of each joint from the truth in reference lengths, (N, K) float64.

    NaN where there is nothing to compare: an unlabelled joint, or a person whose reference is NaN or not
    positive. Infinity where a labelled joint was not found (a NaN prediction). ValueError for arrays that do
    not fit together.
    """
    predicted, true, labelled = _checked(predicted_NK2, true_NK2, labelled_NK)
    reference = np.asarray(reference_N, dtype=np.float64)
    if reference.shape != (len(true),):
        raise ValueError(
            f"reference lengths: found shape {reference.shape}, expected one a person: {(len(true),)}"
        )
    with np.errstate(invalid="ignore"):
        usable_NK = labelled & (np.isfinite(reference) & (reference > 0))[:, None]
        distance = np.hypot(*np.moveaxis(predicted - true, 2, 0))
    distance = np.where(np.isnan(distance), np.inf, distance)
    return np.divide(distance, reference[:, None], out=np.full(distance.shape, np.nan), where=usable_NK)


def torso_length(true_NK2: np.ndarray, labelled_NK: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The reference length of PCK, (N,).

    LSP's is left shoulder to right hip. NaN where either is unlabelled.
    """
    if skeleton.torso is None:
        return np.full(len(true_NK2), np.nan)
    one, other = skeleton.torso
    true = np.asarray(true_NK2, dtype=np.float64)
    length = np.linalg.norm(true[:, one] - true[:, other], axis=1)
    return np.where(labelled_NK[:, one] & labelled_NK[:, other], length, np.nan)


def joint_accuracy(distance_NK: np.ndarray, threshold: float) -> np.ndarray:
    """Percent of each joint's comparable distances that are at most `threshold`, (K,); NaN for a joint without any."""
    return _percent((distance_NK <= threshold).sum(axis=0), _counted(distance_NK))


def joint_area(distance_NK: np.ndarray, end: float = AUC_END) -> np.ndarray:
    """Area under each joint's accuracy over thresholds 0 to `end`, (K,), percent of the largest possible.

    NaN for a joint without any comparable distance. Exact rather than summed over a grid: a joint that is off
    by d is right on the stretch from d to `end`.
    """
    return _percent(np.nansum(np.clip(1 - distance_NK / end, 0, 1), axis=0), _counted(distance_NK))


def mean_of(percent_K: np.ndarray, joints: np.ndarray | tuple[int, ...]) -> float:
    """Mean over joints, each counting the same however often it is labelled; NaN if none of them has a value."""
    found = percent_K[np.asarray(joints)]
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else float("nan")


def weighted_mean_of(percent_K: np.ndarray, distance_NK: np.ndarray, joints: np.ndarray) -> float:
    """Mean in which a joint counts as often as it was compared.

    Other projects' convention, a little higher.
    """
    count_K = _counted(distance_NK)[joints]
    return float(np.nansum(percent_K[joints] * count_K) / count_K.sum()) if count_K.sum() else float("nan")


def single_person_scores(
    predicted_NK2: np.ndarray,
    true_NK2: np.ndarray,
    labelled_NK: np.ndarray,
    *,
    head_size_N: np.ndarray,
    lsp_N: np.ndarray,
    skeleton: Skeleton,
) -> Scores:
    """The metrics of a single-person task, by table.

    PCKh, over people with a head size: "0.5" and "0.1" (means over the skeleton's scored joints), "AUC" (0 to
    0.5), "0.5 weighted" (by how often each joint is labelled), and the groups at 0.5 under their names. PCK,
    over the people of `lsp_N` that have a torso: "0.2", "0.2 weighted" and the groups at 0.2. people: how
    many were counted in each, and how many were left out. A table over nobody is absent, and so is a metric
    over no joint: nothing here is NaN.

    head_size_N: in the frame's unit; NaN or 0 where unknown. lsp_N: bool, people of LSP-type sets.
    """
    head_NK, torso_NK = _distances(predicted_NK2, true_NK2, labelled_NK, head_size_N, lsp_N, skeleton)
    lsp, scored = np.asarray(lsp_N, dtype=bool), skeleton.scored_joints
    has_head_N = np.isfinite(head_size_N) & (np.asarray(head_size_N) > 0)
    torso_N = torso_length(true_NK2, labelled_NK, skeleton)
    has_torso_N = lsp & np.isfinite(torso_N) & (torso_N > 0)
    pckh, fine, pck = (
        joint_accuracy(head_NK, PCKH),
        joint_accuracy(head_NK, PCKH_FINE),
        joint_accuracy(torso_NK, PCK),
    )
    tables: Scores = {
        "PCKh": {
            "0.5": mean_of(pckh, scored),
            "0.1": mean_of(fine, scored),
            "AUC": mean_of(joint_area(head_NK), scored),
            "0.5 weighted": weighted_mean_of(pckh, head_NK, scored),
            **_groups(pckh, skeleton),
        },
        "PCK": {
            "0.2": mean_of(pck, scored),
            "0.2 weighted": weighted_mean_of(pck, torso_NK, scored),
            **_groups(pck, skeleton),
        },
    }
    known = {
        name: {key: value for key, value in row.items() if not np.isnan(value)}
        for name, row in tables.items()
    }
    people: dict[str, float] = {
        "all": len(lsp),
        "with head size": int(has_head_N.sum()),
        "without head size": int((~has_head_N).sum()),
        "LSP with torso": int(has_torso_N.sum()),
        "LSP without torso": int((lsp & ~has_torso_N).sum()),
    }
    return {name: row for name, row in known.items() if row} | {"people": people}


def per_joint_table(
    predicted_NK2: np.ndarray,
    true_NK2: np.ndarray,
    labelled_NK: np.ndarray,
    *,
    head_size_N: np.ndarray,
    lsp_N: np.ndarray,
    skeleton: Skeleton,
) -> pd.DataFrame:
    """One row a joint: its group, PCKh and PCK in percent, and over how many people.

    "sides ignored" is PCKh@0.5 if a joint may also be where its left or right counterpart is: what lies
    between the two columns is confusion of sides, the rest is joints that are nowhere near. Joints that no
    mean counts are listed too. Columns for which nobody could be compared are absent.
    """
    import pandas as pd

    head_NK, torso_NK = _distances(predicted_NK2, true_NK2, labelled_NK, head_size_N, lsp_N, skeleton)
    flipped = skeleton.flip_index
    twin_NK2, twin_labelled_NK = np.asarray(true_NK2)[:, flipped], np.asarray(labelled_NK)[:, flipped]
    twin_NK = normalised_distance(predicted_NK2, twin_NK2, twin_labelled_NK, head_size_N)
    either_NK = np.where(np.isnan(head_NK), np.nan, np.fmin(head_NK, twin_NK))
    group = {joint: name for name, joints in skeleton.groups.items() for joint in joints}
    table: dict[str, object] = {
        "joint": skeleton.joints,
        "group": [group.get(joint, "") for joint in range(len(skeleton))],
    }
    if _counted(head_NK).any():
        table |= {
            "PCKh@0.5": joint_accuracy(head_NK, PCKH),
            "sides ignored": joint_accuracy(either_NK, PCKH),
            "PCKh@0.1": joint_accuracy(head_NK, PCKH_FINE),
            "AUC": joint_area(head_NK),
            "PCKh people": _counted(head_NK),
        }
    if _counted(torso_NK).any():
        table |= {"PCK@0.2": joint_accuracy(torso_NK, PCK), "PCK people": _counted(torso_NK)}
    return pd.DataFrame(table)


def accuracy_curve(
    predicted_NK2: np.ndarray,
    true_NK2: np.ndarray,
    labelled_NK: np.ndarray,
    *,
    head_size_N: np.ndarray,
    lsp_N: np.ndarray,
    skeleton: Skeleton,
    end: float = AUC_END,
    points: int = 51,
) -> pd.DataFrame:
    """Accuracy over thresholds 0 to `end`: columns threshold, unit, one per group, Mean (percent).

    In head sizes where anyone has one; else in torsos, of LSP-type people. `unit` says which: "head size" or
    "torso".
    """
    import pandas as pd

    head_NK, torso_NK = _distances(predicted_NK2, true_NK2, labelled_NK, head_size_N, lsp_N, skeleton)
    unit, distance_NK = ("head size", head_NK) if _counted(head_NK).any() else ("torso", torso_NK)
    rows = []
    for threshold in np.linspace(0, end, points).round(
        9
    ):  # 0.15, and not 0.15000000000000002, for human readers
        accuracy_K = joint_accuracy(distance_NK, threshold)
        mean = mean_of(accuracy_K, skeleton.scored_joints)
        rows.append({"threshold": threshold, "unit": unit, **_groups(accuracy_K, skeleton), "Mean": mean})
    return pd.DataFrame(rows)


def _distances(
    predicted_NK2: np.ndarray,
    true_NK2: np.ndarray,
    labelled_NK: np.ndarray,
    head_size_N: np.ndarray,
    lsp_N: np.ndarray,
    skeleton: Skeleton,
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) distances in head sizes and, of LSP-type people, in torsos."""
    _, true, labelled = _checked(predicted_NK2, true_NK2, labelled_NK)
    if true.shape[1] != len(skeleton):
        raise ValueError(
            f"joints: found {true.shape[1]} a person, expected the {len(skeleton)} of {skeleton.name}"
        )
    lsp = np.asarray(lsp_N)
    if lsp.shape != (len(true),) or lsp.dtype != bool:
        raise ValueError(
            f"lsp_N: found {lsp.dtype} of shape {lsp.shape}, expected bool of shape {(len(true),)}"
        )
    torso_N = np.where(lsp, torso_length(true, labelled, skeleton), np.nan)
    return (
        normalised_distance(predicted_NK2, true, labelled, head_size_N),
        normalised_distance(predicted_NK2, true, labelled, torso_N),
    )


def _checked(
    predicted: np.ndarray, true: np.ndarray, labelled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    labelled = np.asarray(labelled)
    if true.ndim != 3 or true.shape[2] != 2:
        raise ValueError(f"true joints: found shape {true.shape}, expected (people, joints, 2)")
    if predicted.shape != true.shape:
        raise ValueError(
            f"predicted joints: found shape {predicted.shape}, expected that of the true: {true.shape}"
        )
    if labelled.shape != true.shape[:2] or labelled.dtype != bool:
        found = f"{labelled.dtype} of shape {labelled.shape}"
        raise ValueError(f"labelled: found {found}, expected bool of shape {true.shape[:2]}")
    nowhere = labelled & ~np.isfinite(true).all(axis=2)
    if nowhere.any():
        person, joint = np.argwhere(nowhere)[0]
        found = f"joint {joint} of person {person} is labelled but is {true[person, joint]}"
        raise ValueError(f"true joints: {found}, expected numbers")
    return predicted, true, labelled


def _counted(distance_NK: np.ndarray) -> np.ndarray:
    return (~np.isnan(distance_NK)).sum(axis=0)


def _percent(part_K: np.ndarray, whole_K: np.ndarray) -> np.ndarray:
    return np.divide(100.0 * part_K, whole_K, out=np.full(len(whole_K), np.nan), where=whole_K > 0)


def _groups(percent_K: np.ndarray, skeleton: Skeleton) -> dict[str, float]:
    return {name: mean_of(percent_K, joints) for name, joints in skeleton.groups.items()}
