"""The metrics of predictions as functions of how often each image counts, so that they can be resampled.

I images, B samples of them, N people, K joints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pose.data.formats.coco_json import is_labelled_person
from pose.keypoints.results import Results, coco_results
from pose.metrics.oks import CocoTruth
from pose.metrics.pck import PersonTruth, group_means, joint_sums, scores_of
from pose.metrics.scoring.match_records import TenNumbers
from pose.metrics.scoring.truth import Truth

COCO = "COCO"  # the table of OKS AP and AR, as in metrics/TASK.json
FEW = 10  # people: too few to say that predictions are of others
Samples = dict[str, dict[str, np.ndarray]]  # table -> metric -> (B,), NaN where it has no value

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measure:
    """Some metrics of one file of predictions.

    of: the rows or image ids that count, the same for files that can be compared. images: how many there are.
    sample: how often each image counts, (B, I) -> the metrics. counts: what counts, in words.
    """

    of: frozenset[int]
    images: int
    sample: Callable[[np.ndarray], Samples]
    counts: dict[str, int]


def measures(results: Results, truth: Truth, *, by_joint: bool = False) -> dict[str, Measure]:
    """What can be measured, by what it is of, of predictions that are located and have the truth's joints.

    Of predictions of people PCKh and PCK, where sizes are known. Of images with COCO's annotations OKS AP and
    AR: of all of them or, where people are predicted, of theirs, if these are all of them and have
    confidences. by_joint: also joint by joint.
    """
    rows = [one.row for one in results.images if one.row is not None]
    if not rows:
        ids = [image["id"] for image in truth.raw.images] if truth.raw else []
        return {"images": _of_images(results, truth, ids, by_joint)} if ids else {}
    found = {"people": _of_people(results, truth, np.array(rows), by_joint)}
    ids = sorted({int(one.image_id) for one in results.images if one.image_id is not None})
    if results.has_scores and truth.raw and truth.raw.people_of.keys() >= set(ids) and _are_all(rows, truth):
        found["images"] = _of_images(results, truth, ids, by_joint)
    return found


def _are_all(rows: Sequence[int], truth: Truth) -> bool:
    """Whether these are all people with joints in their images."""
    in_images_N = np.isin(truth.image_N, truth.image_N[rows]) & truth.people.labelled_NK.any(axis=1)
    return bool(in_images_N.sum() <= len(rows))


def _of_people(results: Results, truth: Truth, row_N: np.ndarray, by_joint: bool) -> Measure:
    predicted_NK2 = np.concatenate([one.people.joint_PK2 for one in results.images])
    people, skeleton = truth.people.take(row_N), truth.skeleton
    _warn_of_strangers(results, predicted_NK2, people, truth)
    images, image_N = np.unique(truth.image_N[row_N], return_inverse=True)
    sum_I6K = np.zeros((len(images), 6, len(skeleton)))
    np.add.at(sum_I6K, image_N.reshape(-1), joint_sums(predicted_NK2, people))

    def sample(times_BI: np.ndarray) -> Samples:
        sum_B6K = (times_BI @ sum_I6K.reshape(len(images), -1)).reshape(-1, 6, len(skeleton))
        return scores_of(sum_B6K, skeleton, by_joint=by_joint)

    counts = {
        "people": len(row_N),
        "with head size": int((people.head_size_N > 0).sum()),
        "with reference length": int((people.length_N > 0).sum()),
        "images": len(images),
    }
    return Measure(frozenset(row_N.tolist()), len(images), sample, counts)


def _warn_of_strangers(
    results: Results, predicted_NK2: np.ndarray, people: PersonTruth, truth: Truth
) -> None:
    """Predictions that are no nearer to their own person than to the next one are of others, most likely."""
    next_NK2 = np.roll(people.joint_NK2, 1, axis=0)
    is_known_NK = np.isfinite(predicted_NK2 + people.joint_NK2 + next_NK2).all(axis=2)

    def distance(true_NK2: np.ndarray) -> float:
        return float(np.median(np.linalg.norm((predicted_NK2 - true_NK2)[is_known_NK], axis=1)))

    if (
        len(people.joint_NK2) >= FEW
        and is_known_NK.any()
        and distance(people.joint_NK2) >= distance(next_NK2)
    ):
        log.warning(
            "%s: people are predicted no nearer to their own in %s than to others: is the order the same?",
            *(results.path, truth.path),
        )


def _of_images(results: Results, truth: Truth, ids: Sequence[int], by_joint: bool) -> Measure:
    assert truth.raw
    entries = coco_results(results.images, category=truth.raw.category, rounded=False)
    evaluation = CocoTruth(truth.raw, truth.skeleton).evaluate_results(entries, ids)
    numbers, skeleton = TenNumbers.of(evaluation), truth.skeleton
    similarities = evaluation.similarities() if by_joint else []
    sum_I2K = np.array([[np.nansum(one, axis=0), (~np.isnan(one)).sum(axis=0)] for one in similarities])

    def sample(times_BI: np.ndarray) -> Samples:
        tables = {COCO: numbers(times_BI)}
        if by_joint:
            total_BK, count_BK = np.moveaxis(np.tensordot(times_BI, sum_I2K, axes=1), 1, 0)
            mean_BK = np.divide(total_BK, count_BK, out=np.full(total_BK.shape, np.nan), where=count_BK > 0)
            tables["OKS similarity"] = group_means(mean_BK, skeleton)
            tables["OKS similarity by joint"] = dict(zip(skeleton.joints, mean_BK.T, strict=True))
        return tables

    found = {entry["image_id"] for entry in entries}
    counts = {
        "images": len(ids),
        "with predictions": len(found),
        "people": sum(is_labelled_person(one) for image_id in ids for one in truth.raw.people_of[image_id]),
        "people predicted": len(entries),
    }
    return Measure(frozenset(ids), len(ids), sample, counts)
