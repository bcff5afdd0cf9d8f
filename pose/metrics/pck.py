"""PCKh, PCK and area under the curve, of predictions made by anyone: plain arrays in, percent out.

N people, K joints. A joint is right at threshold t if it lies within t times its person's reference length of
the truth: for PCKh the head size (0.6 times the diagonal of MPII's head box), for PCK the reference length of
the skeleton (LSP: the torso), or the longer side of the person's box. A predicted NaN is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pose.keypoints.skeleton import Skeleton

if TYPE_CHECKING:  # imported where tables are made: training does without pandas, which takes long to import
    import pandas as pd

Scores = dict[str, dict[str, float]]  # table -> metric -> percent (people: counts)

PCKH = 0.5  # the usual thresholds
PCKH_FINE = 0.1
PCK = 0.2
AUC_END = 0.5


@dataclass(frozen=True)
class PersonTruth:
    """Annotated people in the frame of the predictions (usually image px).

    joint_NK2: NaN where unlabelled. labelled_NK: bool. head_size_N: NaN or 0 where unknown. length_N: the
    reference length of PCK, NaN or 0 where there is none; see `reference_length`.
    """

    joint_NK2: np.ndarray
    labelled_NK: np.ndarray
    head_size_N: np.ndarray
    length_N: np.ndarray
    skeleton: Skeleton

    def head_distance(self, predicted_NK2: np.ndarray) -> np.ndarray:
        """`normalised_distance` in head sizes."""
        return normalised_distance(predicted_NK2, self.joint_NK2, self.labelled_NK, self.head_size_N)

    def distance(self, predicted_NK2: np.ndarray) -> np.ndarray:
        """`normalised_distance` in reference lengths of PCK."""
        return normalised_distance(predicted_NK2, self.joint_NK2, self.labelled_NK, self.length_N)


def normalised_distance(
    predicted_NK2: np.ndarray, true_NK2: np.ndarray, labelled_NK: np.ndarray, reference_N: np.ndarray
) -> np.ndarray:
    """Distance of each joint from the truth in reference lengths, (N, K) float64.

    NaN where there is nothing to compare: an unlabelled joint, or a person whose reference is NaN or not
    positive. Infinity where a labelled joint was not found (a NaN prediction). ValueError for arrays that do
    not fit together.
    """
    shapes = [one.shape for one in (predicted_NK2, true_NK2, labelled_NK, reference_N)]
    people, joints = labelled_NK.shape
    if shapes != [(people, joints, 2), (people, joints, 2), (people, joints), (people,)]:
        raise ValueError(f"found shapes {shapes}, expected (N, K, 2), (N, K, 2), (N, K), (N,)")
    with np.errstate(invalid="ignore"):
        usable_NK = labelled_NK & (np.isfinite(reference_N) & (reference_N > 0))[:, None]
        distance = np.hypot(*np.moveaxis(predicted_NK2.astype(np.float64) - true_NK2, 2, 0))
    distance = np.where(np.isnan(distance), np.inf, distance)
    return np.divide(distance, reference_N[:, None], out=np.full(distance.shape, np.nan), where=usable_NK)


def reference_length(
    true_NK2: np.ndarray, labelled_NK: np.ndarray, skeleton: Skeleton, side_N: np.ndarray
) -> np.ndarray:
    """(N,) the reference length of PCK: between two joints, NaN where either is unlabelled.

    side_N: the longer sides of the people's boxes, which are taken for skeletons that name no such joints.
    """
    if skeleton.reference is None:
        return side_N
    one, other = skeleton.reference
    true = np.asarray(true_NK2, dtype=np.float64)
    length = np.linalg.norm(true[:, one] - true[:, other], axis=1)
    return np.where(labelled_NK[:, one] & labelled_NK[:, other], length, np.nan)


def joint_accuracy(distance_NK: np.ndarray, threshold: float) -> np.ndarray:
    """(K,) percent of each joint's comparable distances that are at most `threshold`; NaN if it has none."""
    return _percent((distance_NK <= threshold).sum(axis=0), _counted(distance_NK))


def joint_area(distance_NK: np.ndarray) -> np.ndarray:
    """(K,) area under each joint's accuracy over thresholds 0 to AUC_END, percent of the largest possible.

    NaN for a joint without any comparable distance. Exact: a joint that is off by d is right from d to
    AUC_END.
    """
    return _percent(np.nansum(np.clip(1 - distance_NK / AUC_END, 0, 1), axis=0), _counted(distance_NK))


def mean_of(percent_K: np.ndarray, joints: np.ndarray | tuple[int, ...]) -> float:
    """Mean over joints, each with the same weight; NaN if none of them has a value."""
    found = percent_K[np.asarray(joints)]
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else float("nan")


def weighted_mean_of(percent_K: np.ndarray, distance_NK: np.ndarray, joints: np.ndarray) -> float:
    """Mean over joints, weighted by how often each was compared: other projects' convention, a bit higher."""
    count_K = _counted(distance_NK)[joints]
    return float(np.nansum(percent_K[joints] * count_K) / count_K.sum()) if count_K.sum() else float("nan")


def single_person_scores(predicted_NK2: np.ndarray, truth: PersonTruth) -> Scores:
    """The metrics of a single-person task, by table; without NaN: what cannot be computed is absent.

    PCKh, over people with a head size: "0.5" and "0.1" (means over the skeleton's scored joints), "AUC" (0 to
    0.5), "0.5 weighted" (by how often each joint is labelled), and the groups at 0.5. PCK, over people with a
    reference length: "0.2", "0.2 weighted" and the groups at 0.2. people: how many were counted in each.
    """
    head_NK, length_NK = truth.head_distance(predicted_NK2), truth.distance(predicted_NK2)
    skeleton, scored = truth.skeleton, truth.skeleton.scored_joints
    pckh, pck = joint_accuracy(head_NK, PCKH), joint_accuracy(length_NK, PCK)
    tables: Scores = {
        "PCKh": {
            "0.5": mean_of(pckh, scored),
            "0.1": mean_of(joint_accuracy(head_NK, PCKH_FINE), scored),
            "AUC": mean_of(joint_area(head_NK), scored),
            "0.5 weighted": weighted_mean_of(pckh, head_NK, scored),
            **_groups(pckh, skeleton),
        },
        "PCK": {
            "0.2": mean_of(pck, scored),
            "0.2 weighted": weighted_mean_of(pck, length_NK, scored),
            **_groups(pck, skeleton),
        },
    }
    tables = {
        name: {key: value for key, value in row.items() if not np.isnan(value)}
        for name, row in tables.items()
    }
    people: dict[str, float] = {
        "all": len(truth.labelled_NK),
        "with head size": int((truth.head_size_N > 0).sum()),
        "with reference length": int((truth.length_N > 0).sum()),
    }
    return {name: row for name, row in tables.items() if row} | {"people": people}


def per_joint_table(predicted_NK2: np.ndarray, truth: PersonTruth) -> pd.DataFrame:
    """One row a joint: its group, PCKh and PCK in percent, and over how many people.

    "sides ignored" is PCKh@0.5 if a joint may also be where its left or right counterpart is: the difference
    is confusion of sides. Columns for which nobody could be compared are absent.
    """
    import pandas as pd

    head_NK, length_NK = truth.head_distance(predicted_NK2), truth.distance(predicted_NK2)
    flip = truth.skeleton.flip_index
    twin_NK2, twin_labelled_NK = truth.joint_NK2[:, flip], truth.labelled_NK[:, flip]
    twin_NK = normalised_distance(predicted_NK2, twin_NK2, twin_labelled_NK, truth.head_size_N)
    either_NK = np.where(np.isnan(head_NK), np.nan, np.fmin(head_NK, twin_NK))
    group = {joint: name for name, joints in truth.skeleton.groups.items() for joint in joints}
    groups = [group.get(joint, "") for joint in range(len(truth.skeleton))]
    table: dict[str, object] = {"joint": truth.skeleton.joints, "group": groups}
    if _counted(head_NK).any():
        table |= {
            "PCKh@0.5": joint_accuracy(head_NK, PCKH),
            "sides ignored": joint_accuracy(either_NK, PCKH),
            "PCKh@0.1": joint_accuracy(head_NK, PCKH_FINE),
            "AUC": joint_area(head_NK),
            "PCKh people": _counted(head_NK),
        }
    if _counted(length_NK).any():
        table |= {"PCK@0.2": joint_accuracy(length_NK, PCK), "PCK people": _counted(length_NK)}
    return pd.DataFrame(table)


def accuracy_curve(predicted_NK2: np.ndarray, truth: PersonTruth) -> pd.DataFrame:
    """Accuracy over thresholds 0 to AUC_END: columns threshold, unit, one per group, Mean (percent).

    unit: "head size" where anyone has one; else "reference length".
    """
    import pandas as pd

    unit, distance_NK = "head size", truth.head_distance(predicted_NK2)
    if not _counted(distance_NK).any():
        unit, distance_NK = "reference length", truth.distance(predicted_NK2)
    rows = []
    for threshold in np.linspace(0, AUC_END, 51).round(9):  # 0.15 instead of 0.15000000000000002
        accuracy_K = joint_accuracy(distance_NK, threshold)
        mean = mean_of(accuracy_K, truth.skeleton.scored_joints)
        groups = _groups(accuracy_K, truth.skeleton)
        rows.append({"threshold": threshold, "unit": unit, **groups, "Mean": mean})
    return pd.DataFrame(rows)


def _counted(distance_NK: np.ndarray) -> np.ndarray:
    return (~np.isnan(distance_NK)).sum(axis=0)


def _percent(part_K: np.ndarray, total_K: np.ndarray) -> np.ndarray:
    return np.divide(100.0 * part_K, total_K, out=np.full(len(total_K), np.nan), where=total_K > 0)


def _groups(percent_K: np.ndarray, skeleton: Skeleton) -> dict[str, float]:
    return {name: mean_of(percent_K, joints) for name, joints in skeleton.groups.items()}
