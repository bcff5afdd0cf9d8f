"""COCO keypoint metrics, as fractions, based on object keypoint similarity (OKS).

Both libraries that they come from are imported where they are used: a bare training machine may lack them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.data.formats.coco_json import RawCoco, read_annotations
from pose.io.errors import installed
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, coco_results
from pose.keypoints.skeleton import Skeleton
from pose.metrics.error_kinds import JITTER, error_kinds

if TYPE_CHECKING:
    import pandas as pd

TEN = ("AP", "AP50", "AP75", "AP M", "AP L", "AR", "AR50", "AR75", "AR M", "AR L")  # in pycocotools' order
RIGHT = 0.5  # a joint's similarity, its part of OKS, above which it is right


@dataclass(frozen=True)
class CocoEvaluation:
    """Predictions for some images, compared with their annotations.

    The ten numbers come from faster-coco-eval, which takes a third of pycocotools' time and gives the same
    to eight digits; the matches, which it does not keep, from pycocotools, when they are asked for. truth,
    predictions: COCO objects. category: COCO's id of the people's.
    """

    truth: Any
    predictions: Any
    image_ids: Sequence[int]
    category: int
    skeleton: Skeleton

    def metrics(self) -> dict[str, float]:
        """Those of the ten numbers that exist: without people of a size there is none for that size."""
        from faster_coco_eval import COCOeval_faster

        quiet = partial(COCOeval_faster, print_function=lambda *_: None)
        stats = zip(TEN, self._evaluated(quiet).stats, strict=False)  # further ones follow
        return {name: float(value) for name, value in stats if value >= 0}

    @cached_property
    def coco_eval(self) -> Any:
        """The evaluation by pycocotools, with `evalImgs` and precisions."""
        from pycocotools.cocoeval import COCOeval

        return self._evaluated(COCOeval)

    def _evaluated(self, kind: Callable[..., Any]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluated = kind(self.truth, self.predictions, "keypoints")
            evaluated.params.imgIds = sorted(int(number) for number in self.image_ids)
            evaluated.params.catIds = [self.category]
            evaluated.params.kpt_oks_sigmas = self.skeleton.oks_sigmas
            evaluated.evaluate()
            evaluated.accumulate()
            evaluated.summarize()
        return evaluated

    def on(self, image_ids: Sequence[int]) -> CocoEvaluation:
        """The evaluation on some of its images alone."""
        return replace(self, image_ids=image_ids)

    def matched(self) -> set[int]:
        """Annotation ids of the people who count and were found at every OKS threshold."""
        matched: set[int] = set()
        for image in self.coco_eval.evalImgs[: len(self.coco_eval.params.imgIds)]:  # the first size: all
            if image:
                is_found_P = image["gtMatches"].all(axis=0) & ~np.array(image["gtIgnore"], dtype=bool)
                matched.update(np.array(image["gtIds"])[is_found_P].tolist())
        return matched

    def precision(self) -> pd.DataFrame:
        """Precision over recall at OKS 0.5 and 0.75, and the mean of 0.5 to 0.95; NaN without annotations."""
        import pandas as pd

        at = self.coco_eval.params
        # thresholds, recalls; of one category, all sizes and the largest number of detections
        precision_TR = self.coco_eval.eval["precision"][:, :, 0, 0, -1]
        precision_TR = np.where(precision_TR < 0, np.nan, precision_TR)  # pycocotools writes -1 for NaN
        row = {threshold: int(np.argmin(np.abs(at.iouThrs - threshold))) for threshold in (0.5, 0.75)}
        columns = {f"OKS {threshold:g}": precision_TR[number] for threshold, number in row.items()}
        return pd.DataFrame({"recall": at.recThrs, **columns, "mean": precision_TR.mean(axis=0)})

    def joints(self) -> pd.DataFrame:
        """Accuracy of each joint of the people who were found at OKS 0.5 or better.

        similarity: mean of exp(-d^2 / (2 area (2 sigma)^2)), the joint's part of OKS. right: percent of them
        above 0.5. jitter, inversion, swap, miss: the others by kind, in percent, see `error_kinds`. people:
        how many had the joint labelled.
        """
        import pandas as pd

        joints = len(self.skeleton)
        similarity_N3K = np.concatenate([np.empty((0, 3, joints)), *self._similarities()])
        own_NK, twin_NK, other_NK = np.moveaxis(similarity_N3K, 1, 0)
        count_K = (~np.isnan(own_NK)).sum(axis=0)
        total_K = np.maximum(count_K, 1)
        mean_K = np.where(count_K, np.nansum(own_NK, axis=0) / total_K, np.nan)
        near_NK = own_NK > RIGHT ** (JITTER**2)  # the similarity falls with the square of the distance
        kinds = error_kinds(own_NK <= RIGHT, near_NK, twin_NK > RIGHT, other_NK > RIGHT)
        shares = {
            name: np.where(count_K, 100 * is_NK.sum(axis=0) / total_K, np.nan)
            for name, is_NK in ({"right": own_NK > RIGHT} | kinds).items()
        }
        columns = {"similarity": mean_K, **shares, "people": count_K}
        return pd.DataFrame({"joint": self.skeleton.joints, **columns})

    def similarities(self) -> list[np.ndarray]:
        """For each image (P, K) similarities of the people found in it, NaN for unlabelled joints."""
        return [similarity_P3K[:, 0] for similarity_P3K in self._similarities()]

    def _similarities(self) -> list[np.ndarray]:
        """For each image (P, 3, K), of the people found in it: the similarity to their own joints, to these
        joints' counterparts, and the highest to either of anybody else. NaN for unlabelled joints.
        """
        truth, predictions = self.coco_eval.cocoGt, self.coco_eval.cocoDt
        variance_K, flip = (2 * self.skeleton.oks_sigmas) ** 2, self.skeleton.flip_index
        of_images = []
        for image in self.coco_eval.evalImgs[: len(self.coco_eval.params.imgIds)]:  # the first size: all
            matches = zip(image["dtIds"], image["dtMatches"][0], strict=True) if image else ()
            true_PK3 = {one: _keypoints(truth.anns[one]) for one in (image["gtIds"] if image else ())}
            similarities = []
            for prediction_id, truth_id in matches:
                person = truth.anns.get(int(truth_id))
                if not person or person["ignore"]:
                    continue
                found_K3 = _keypoints(predictions.anns[prediction_id])
                others = [true_K3 for one, true_K3 in true_PK3.items() if one != person["id"]]
                places_PK3 = np.stack([true_PK3[person["id"]], *others])
                both_P2K3 = np.stack([places_PK3, places_PK3[:, flip]], axis=1)
                square_P2K = np.square(both_P2K3[..., :2] - found_K3[:, :2]).sum(axis=-1)
                scale_K = 2 * variance_K * (person["area"] + np.spacing(1))
                similarity_P2K = np.where(both_P2K3[..., 2] > 0, np.exp(-square_P2K / scale_K), np.nan)
                other_K = np.fmax.reduce(similarity_P2K[1:], axis=(0, 1), initial=np.nan)
                similarities.append([*similarity_P2K[0], other_K])
            of_images.append(np.reshape(similarities, (-1, 3, len(self.skeleton))))
        return of_images


def _keypoints(annotation: dict[str, Any]) -> np.ndarray:
    return np.reshape(annotation["keypoints"], (-1, 3))


class CocoTruth:
    """A split's annotations, read once. UserError if pycocotools is missing or the file cannot be read.

    source: a file, or what one holds, whose annotations get a key `ignore`.
    """

    def __init__(self, source: str | Path | RawCoco, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        with installed("for COCO's metrics"):
            import pycocotools.cocoeval  # noqa: F401  # used later: if it is missing, that is said now
            from faster_coco_eval import COCO as Annotations
        # checked, since pycocotools trusts its input
        raw = source if isinstance(source, RawCoco) else read_annotations(source, skeleton)
        people = [person for people in raw.people_of.values() for person in people]
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco = Annotations()
            self._coco.dataset = raw.rest | {"images": raw.images, "annotations": people}
            self._coco.createIndex()
        self.category = raw.category

    def evaluate(self, found: Sequence[People], image_ids: Sequence[int]) -> CocoEvaluation:
        """Compare predictions for these images with their annotations; other images do not count."""
        images = [ImageResult(one, image_id=number) for one, number in zip(found, image_ids, strict=True)]
        return self.evaluate_results(coco_results(images, category=self.category), image_ids)

    def evaluate_results(self, results: list[dict[str, Any]], image_ids: Sequence[int]) -> CocoEvaluation:
        """`evaluate` of entries in COCO's result format, which are changed."""
        with contextlib.redirect_stdout(io.StringIO()):
            predictions = self._coco.loadRes(results) if results else type(self._coco)()
        return CocoEvaluation(self._coco, predictions, image_ids, self.category, self._skeleton)
