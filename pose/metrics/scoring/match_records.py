"""COCO's ten numbers from pycocotools' matches, for images that count any number of times.

pycocotools matches detections with people image by image and then goes through the detections of all images,
best first; only the second part depends on which images there are. Counting an image n times is as if it were
there n times.

I images, D detections in descending order of score, M of them that found somebody, T OKS thresholds (0.50 to
0.95), R recalls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pose.metrics.oks import TEN, CocoEvaluation

EPSILON = np.spacing(1)  # as in pycocotools, so that the numbers are the same
ALL = "all"


@dataclass(frozen=True)
class MatchRecords:
    """The matches of people of one range of sizes.

    image_D: index of each detection's image. counted_TD: 1, or 0 for a detection that is neither right nor
    wrong (on a crowd, on somebody of another size). found_M: which detections found somebody at any
    threshold. right_TM: 1 at the thresholds at which they did. people_I: who can be found. recalls: at which
    precision is read.
    """

    image_D: np.ndarray
    counted_TD: np.ndarray
    found_M: np.ndarray
    right_TM: np.ndarray
    people_I: np.ndarray
    recalls: np.ndarray

    @staticmethod
    def of(images: list[dict[str, Any] | None], thresholds: np.ndarray, recalls: np.ndarray) -> MatchRecords:
        """From pycocotools' `evalImgs` of one range of sizes."""
        people_I, image_D, score_D = np.zeros(len(images), dtype=np.int64), [], []
        none = np.empty((len(thresholds), 0), dtype=bool)
        matched, ignored = [none], [none]
        for number, image in enumerate(images):
            if image:
                people_I[number] = np.count_nonzero(np.equal(image["gtIgnore"], 0))
                image_D += [number] * len(image["dtScores"])
                score_D += image["dtScores"]
                matched.append(np.asarray(image["dtMatches"], dtype=bool))
                ignored.append(np.asarray(image["dtIgnore"], dtype=bool))
        order = np.argsort(-np.array(score_D), kind="stable")
        right_TD = np.concatenate(matched, axis=1)
        counted_TD = np.logical_not(np.concatenate(ignored, axis=1))
        order = order[np.any(counted_TD, axis=0)[order]]  # the others change nothing
        right_TD, counted_TD = (right_TD & counted_TD)[:, order], counted_TD[:, order]
        found_M = np.flatnonzero(right_TD.any(axis=0))
        return MatchRecords(
            image_D=np.array(image_D, dtype=np.int64)[order],
            counted_TD=counted_TD.astype(np.float32),  # counts up to 2^24 are exact in it, and quick
            found_M=found_M,
            right_TM=right_TD[:, found_M].astype(np.float32),
            people_I=people_I,
            recalls=recalls,
        )

    def precision_and_recall(self, times_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T,) mean precision over recalls and (T,) largest recall; NaN where nobody can be found.

        times_I: how often each image counts.
        """
        people = int(times_I @ self.people_I)
        if not people:
            nothing = np.full(len(self.right_TM), np.nan)
            return nothing, nothing
        times_D = times_I[self.image_D].astype(np.float32)
        # Only where somebody is found recall rises, and precision is the highest from there on.
        counted_TM = np.cumsum(self.counted_TD * times_D, axis=1)[:, self.found_M].astype(np.float64)
        right_TM = np.cumsum(self.right_TM * times_D[self.found_M], axis=1).astype(np.float64)
        precision_TM = right_TM / (counted_TM + EPSILON)
        precision_TM = np.maximum.accumulate(precision_TM[:, ::-1], axis=1)[:, ::-1]
        precision_TM = np.pad(precision_TM, ((0, 0), (0, 1)))  # behind the last one nobody more is found
        recall_TM = right_TM / people
        at_TR = np.array([np.searchsorted(recall_M, self.recalls) for recall_M in recall_TM])
        precision_T = np.take_along_axis(precision_TM, at_TR, axis=1).mean(axis=1)
        return precision_T, recall_TM[:, -1] if len(self.found_M) else np.zeros(len(recall_TM))


@dataclass(frozen=True)
class TenNumbers:
    """COCO's ten numbers of one evaluation, for images that count any number of times."""

    records: dict[str, MatchRecords]  # by range of sizes

    @staticmethod
    def of(evaluation: CocoEvaluation) -> TenNumbers:
        """From an evaluation by pycocotools. Images are in the order of their ids."""
        at, found = evaluation.coco_eval.params, evaluation.coco_eval.evalImgs
        images = len(at.imgIds)
        of_range = (found[first : first + images] for first in range(0, len(found), images))
        records = (MatchRecords.of(one, at.iouThrs, at.recThrs) for one in of_range)
        return TenNumbers(dict(zip(at.areaRngLbl, records, strict=True)))

    def __call__(self, times_BI: np.ndarray) -> dict[str, np.ndarray]:
        """(B,) each of the ten; NaN where nobody of its sizes can be found."""
        numbers = np.array([self._numbers(times_I) for times_I in times_BI]).reshape(-1, len(TEN))
        return dict(zip(TEN, numbers.T, strict=True))

    def _numbers(self, times_I: np.ndarray) -> list[float]:
        every, medium, large = (
            one.precision_and_recall(times_I)
            for one in (self.records[name] for name in (ALL, "medium", "large"))
        )
        return [
            float(value)
            for kind in (0, 1)  # precision, recall
            for value in (
                *(every[kind].mean(), every[kind][0], every[kind][5]),  # OKS 0.50, 0.75
                *(medium[kind].mean(), large[kind].mean()),
            )
        ]
