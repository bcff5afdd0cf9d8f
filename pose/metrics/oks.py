"""COCO's metrics for keypoints, by pycocotools.

Object keypoint similarity (OKS) in the place that overlap has for boxes.

pycocotools is imported where it is used: a bare training machine may lack it. Metrics are fractions, as it
prints them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.data.formats.coco_json import read_annotations
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton

if TYPE_CHECKING:  # imported where tables are made, since training needs none
    import pandas as pd

TEN = ("AP", "AP50", "AP75", "AP M", "AP L", "AR", "AR50", "AR75", "AR M", "AR L")  # in pycocotools' order
PERSON = 1  # COCO's category of that name


def to_results(
    found: Sequence[People], image_ids: Sequence[int], *, category: int = PERSON
) -> list[dict[str, Any]]:
    """People in COCO's result format: 17 times x, y (image px) and score, and the person's own score.

    A joint that was not found has score 0 and lies in the middle of the others, since each must lie
    somewhere.
    """
    results = []
    for people, image_id in zip(found, image_ids, strict=True):
        for joint_K2, score_K, score in zip(
            people.joint_PK2, people.score_PK, people.score_P.tolist(), strict=True
        ):
            known_K = np.isfinite(joint_K2).all(axis=1)
            if not known_K.any():
                continue
            place_K2 = np.where(known_K[:, None], joint_K2, joint_K2[known_K].mean(axis=0))
            keypoints = np.column_stack([place_K2.round(2), np.where(known_K, score_K, 0).round(4)])
            results.append(
                {
                    "image_id": int(image_id),
                    "category_id": category,
                    "keypoints": keypoints.ravel().tolist(),
                    "score": round(score, 6),
                }
            )
    return results


@dataclass(frozen=True)
class CocoEvaluation:
    """One run of pycocotools over some images."""

    coco_eval: Any
    skeleton: Skeleton

    def metrics(self) -> dict[str, float]:
        """The ten numbers that exist: without people of a size there is none for that size."""
        return {
            name: float(value) for name, value in zip(TEN, self.coco_eval.stats, strict=True) if value >= 0
        }

    def precision(self) -> pd.DataFrame:
        """Precision over recall at OKS 0.5 and 0.75, and its mean over 0.5 to 0.95; NaN where nobody is annotated."""
        import pandas as pd

        at = self.coco_eval.params
        precision_TR = self.coco_eval.eval["precision"][
            :, :, 0, 0, -1
        ]  # thresholds, recalls; one category, all sizes
        precision_TR = np.where(precision_TR < 0, np.nan, precision_TR)  # -1 is pycocotools' word for it
        place = {threshold: int(np.argmin(np.abs(at.iouThrs - threshold))) for threshold in (0.5, 0.75)}
        columns = {f"OKS {threshold:g}": precision_TR[number] for threshold, number in place.items()}
        return pd.DataFrame({"recall": at.recThrs, **columns, "mean": precision_TR.mean(axis=0)})

    def joints(self) -> pd.DataFrame:
        """How well each joint of the people lies who were found at OKS 0.5 or better.

        similarity: mean of exp(-d^2 / (2 area (2 sigma)^2)), a joint's part of OKS. right: percent of them
        above 0.5. people: how many had the joint labelled.
        """
        import pandas as pd

        truth, answers = self.coco_eval.cocoGt, self.coco_eval.cocoDt
        variance_K = (2 * np.array(self.skeleton.sigmas)) ** 2
        similarity_NK = []
        for image in self.coco_eval.evalImgs[
            : len(self.coco_eval.params.imgIds)
        ]:  # the first of the sizes: all
            for answer_id, truth_id in (
                zip(image["dtIds"], image["dtMatches"][0], strict=True) if image else ()
            ):
                person = truth.anns.get(int(truth_id))
                if not person or person["ignore"]:
                    continue
                true_K3, found_K3 = (
                    np.reshape(one["keypoints"], (-1, 3)) for one in (person, answers.anns[answer_id])
                )
                square_K = np.square(true_K3[:, :2] - found_K3[:, :2]).sum(axis=1)
                similarity_K = np.exp(-square_K / (2 * variance_K * (person["area"] + np.spacing(1))))
                similarity_NK.append(np.where(true_K3[:, 2] > 0, similarity_K, np.nan))
        table_NK = np.array(similarity_NK).reshape(-1, len(self.skeleton))
        count_K = (~np.isnan(table_NK)).sum(axis=0)
        total_K = np.maximum(count_K, 1)
        similarity_K = np.where(count_K, np.nansum(table_NK, axis=0) / total_K, np.nan)
        right_K = np.where(count_K, 100 * (table_NK > 0.5).sum(axis=0) / total_K, np.nan)
        return pd.DataFrame(
            {"joint": self.skeleton.joints, "similarity": similarity_K, "right": right_K, "people": count_K}
        )


class CocoTruth:
    """A split's annotations, read once. UserError where pycocotools is missing or the file cannot be read."""

    def __init__(self, path: str | Path, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        try:
            from pycocotools.coco import COCO as Annotations
        except ModuleNotFoundError:
            raise UserError(
                "pycocotools: not installed, expected it for COCO's metrics (pip install pycocotools)"
            ) from None
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                raw = read_annotations(path)  # checked: pycocotools trusts what it is given
                people = [person for people in raw.people_of.values() for person in people]
                self._coco = Annotations()
                self._coco.dataset = raw.rest | {"images": raw.images, "annotations": people}
                self._coco.createIndex()
            except UserError as error:
                raise UserError(
                    f"{path}: cannot be read as COCO annotations ({str(error).removeprefix(f'{path}: ')})"
                ) from None
        self.category: int = next(iter(self._coco.getCatIds(catNms=["person"])), PERSON)

    def evaluate(self, found: Sequence[People], image_ids: Sequence[int]) -> CocoEvaluation:
        """Compare what was found in these images with what is annotated there; other images do not count."""
        from pycocotools.cocoeval import COCOeval

        results = to_results(found, image_ids, category=self.category)
        with contextlib.redirect_stdout(io.StringIO()):
            answers = self._coco.loadRes(results) if results else type(self._coco)()
            evaluated = COCOeval(self._coco, answers, "keypoints")
            evaluated.params.imgIds = sorted(int(number) for number in image_ids)
            evaluated.params.catIds = [self.category]
            evaluated.evaluate()
            evaluated.accumulate()
            evaluated.summarize()
        return CocoEvaluation(evaluated, self._skeleton)
