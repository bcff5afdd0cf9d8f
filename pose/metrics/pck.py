"""PCKh, PCK and area under the curve, of predictions made by anyone: plain arrays in, percent out.

N people, K joints. A joint is right at threshold t if it lies within t times its person's reference length of
the truth: for PCKh the head size (0.6 times the diagonal of MPII's head box), for PCK the reference length of
the skeleton (LSP: the torso), or the longer side of the person's box. A predicted NaN is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pose.data.person_set import PERSON_HEIGHT, PersonSet
from pose.keypoints.skeleton import Skeleton
from pose.metrics.error_kinds import JITTER, error_kinds

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

    def take(self, rows: np.ndarray) -> PersonTruth:
        """The people of these rows, in their order."""
        sizes = self.head_size_N[rows], self.length_N[rows]
        return PersonTruth(self.joint_NK2[rows], self.labelled_NK[rows], *sizes, self.skeleton)

    def head_distance(self, predicted_NK2: np.ndarray) -> np.ndarray:
        """`normalised_distance` in head sizes."""
        return normalised_distance(predicted_NK2, self.joint_NK2, self.labelled_NK, self.head_size_N)

    def distance(self, predicted_NK2: np.ndarray) -> np.ndarray:
        """`normalised_distance` in reference lengths of PCK."""
        return normalised_distance(predicted_NK2, self.joint_NK2, self.labelled_NK, self.length_N)


def person_truth(people: PersonSet, rows: np.ndarray) -> PersonTruth:
    """The people of these rows of a prepared set. MPII's have no reference length: PCKh is for them."""
    joint_NK2, labelled_NK = people.joint_NK2[rows], people.labelled_NK[rows]
    side_N = PERSON_HEIGHT * people.scale_N[rows]
    length_N = reference_length(joint_NK2, labelled_NK, people.skeleton, side_N)
    return PersonTruth(
        joint_NK2=joint_NK2,
        labelled_NK=labelled_NK,
        head_size_N=people.head_size_N[rows],
        length_N=np.where(people.mpii_N[rows], np.nan, length_N),
        skeleton=people.skeleton,
    )


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
    return _percent(_area(distance_NK).sum(axis=0), _counted(distance_NK))


def mean_of(percent_K: np.ndarray, joints: np.ndarray | tuple[int, ...]) -> float:
    """Mean over joints, each with the same weight; NaN if none of them has a value."""
    return float(_mean(percent_K, np.asarray(joints)))


def group_means(value_BK: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Mean over the joints of each group, NaN if none of them has a value; leading axes stay."""
    return {name: _mean(value_BK, np.array(joints)) for name, joints in skeleton.groups.items()}


def joint_sums(predicted_NK2: np.ndarray, truth: PersonTruth) -> np.ndarray:
    """(N, 6, K) float64, of which all metrics are sums over people, see `scores_of`."""
    head_NK, length_NK = truth.head_distance(predicted_NK2), truth.distance(predicted_NK2)
    within_head = head_NK <= PCKH, head_NK <= PCKH_FINE, _area(head_NK), ~np.isnan(head_NK)
    within_length = length_NK <= PCK, ~np.isnan(length_NK)
    return np.stack([*within_head, *within_length], axis=1, dtype=np.float64)


def scores_of(
    sum_B6K: np.ndarray, skeleton: Skeleton, *, by_joint: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """The tables PCKh and PCK of `single_person_scores`, of sums of `joint_sums` over some people.

    Leading axes stay: (B, 6, K) of B samples of people gives (B,) for each metric, NaN where it has no value.
    by_joint: also the accuracy of each joint.
    """
    right, fine, area, head, right_pck, length = np.moveaxis(sum_B6K, -2, 0)
    pckh, pck, scored = _percent(right, head), _percent(right_pck, length), skeleton.scored_joints
    tables = {
        "PCKh": {
            "0.5": _mean(pckh, scored),
            "0.1": _mean(_percent(fine, head), scored),
            "AUC": _mean(_percent(area, head), scored),
            "0.5 weighted": _percent(right[..., scored].sum(axis=-1), head[..., scored].sum(axis=-1)),
            **group_means(pckh, skeleton),
        },
        "PCK": {
            "0.2": _mean(pck, scored),
            "0.2 weighted": _percent(right_pck[..., scored].sum(axis=-1), length[..., scored].sum(axis=-1)),
            **group_means(pck, skeleton),
        },
    }
    if by_joint:
        tables["PCKh@0.5 by joint"] = dict(zip(skeleton.joints, np.moveaxis(pckh, -1, 0), strict=True))
        tables["PCK@0.2 by joint"] = dict(zip(skeleton.joints, np.moveaxis(pck, -1, 0), strict=True))
    return tables


def single_person_scores(predicted_NK2: np.ndarray, truth: PersonTruth) -> Scores:
    """The metrics of a single-person task, by table; without NaN: what cannot be computed is absent.

    PCKh, over people with a head size: "0.5" and "0.1" (means over the skeleton's scored joints), "AUC" (0 to
    0.5), "0.5 weighted" (by how often each joint is labelled, other projects' convention, a bit higher), and
    the groups at 0.5. PCK, over people with a reference length: "0.2", "0.2 weighted" and the groups at 0.2.
    people: how many were counted in each.
    """
    tables = scores_of(joint_sums(predicted_NK2, truth).sum(axis=0), truth.skeleton)
    scores: Scores = {
        name: found
        for name, row in tables.items()
        if (found := {key: float(value) for key, value in row.items() if not np.isnan(value)})
    }
    people: dict[str, float] = {
        "all": len(truth.labelled_NK),
        "with head size": int((truth.head_size_N > 0).sum()),
        "with reference length": int((truth.length_N > 0).sum()),
    }
    return scores | {"people": people}


def per_joint_table(predicted_NK2: np.ndarray, truth: PersonTruth) -> pd.DataFrame:
    """One row a joint: its group, PCKh and PCK in percent, and over how many people.

    "sides ignored" is PCKh@0.5 if a joint may also be where its left or right counterpart is: the difference
    is confusion of sides. jitter, inversion, miss: the wrong ones by kind (see `error_kinds`), in percent,
    at PCKh@0.5 if anyone has a head size, else at PCK@0.2. Columns for which nobody could be compared are
    absent.
    """
    import pandas as pd

    head_NK, length_NK = truth.head_distance(predicted_NK2), truth.distance(predicted_NK2)
    flip = truth.skeleton.flip_index
    twin_NK2, twin_labelled_NK = truth.joint_NK2[:, flip], truth.labelled_NK[:, flip]

    def kinds(distance_NK: np.ndarray, threshold: float, unit_N: np.ndarray) -> dict[str, np.ndarray]:
        twin_NK = normalised_distance(predicted_NK2, twin_NK2, twin_labelled_NK, unit_N)
        near_NK = distance_NK <= JITTER * threshold
        found = error_kinds(distance_NK > threshold, near_NK, twin_NK <= threshold)
        return {kind: _percent(is_NK.sum(axis=0), _counted(distance_NK)) for kind, is_NK in found.items()}

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
            **kinds(head_NK, PCKH, truth.head_size_N),
            "PCKh people": _counted(head_NK),
        }
    if _counted(length_NK).any():
        table["PCK@0.2"] = joint_accuracy(length_NK, PCK)
        if "miss" not in table:
            table |= kinds(length_NK, PCK, truth.length_N)
        table["PCK people"] = _counted(length_NK)
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
        groups = {name: float(value) for name, value in group_means(accuracy_K, truth.skeleton).items()}
        rows.append({"threshold": threshold, "unit": unit, **groups, "Mean": mean})
    return pd.DataFrame(rows)


def _counted(distance_NK: np.ndarray) -> np.ndarray:
    return (~np.isnan(distance_NK)).sum(axis=0)


def _area(distance_NK: np.ndarray) -> np.ndarray:
    """Share of the thresholds from 0 to AUC_END at which a joint is right, 0 where there is no distance."""
    return np.nan_to_num(np.clip(1 - distance_NK / AUC_END, 0, 1))


def _percent(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(100.0 * part, total, out=np.full(np.shape(total), np.nan), where=total > 0)


def _mean(percent_BK: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Mean over joints that have a value, NaN if none has; leading axes stay."""
    found = percent_BK[..., joints]
    is_known, total = ~np.isnan(found), np.nansum(found, axis=-1)
    count = is_known.sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
