"""The multi-person problem: all people of an image, told apart by tags (see `pose.tasks.base`).

Associative embedding, arXiv 1611.05424. B images, S stacks, C output channels, K joints, P people, H W input
px, h w heatmap cells, T tag dimensions.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pose.data.batch import Inputs, MultiTargets
from pose.data.image_set import SPLITS, ImageSet
from pose.data.multi_samples import ImageDataset, letterbox_inputs
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.metrics.oks import CocoEvaluation, CocoTruth
from pose.metrics.pck import Scores
from pose.models.blocks import PoseNetwork
from pose.models.networks import NetworkParams
from pose.ops.tag_loss import tag_loss
from pose.params import EvaluateParams, GroupBy, MultiInferenceParams, MultiParams
from pose.tasks.arrays import Box, Maps, group_maps, refuse_boxes
from pose.tasks.base import PredictRows, Problem, ProblemData, Subset, Terms, TTAOutput
from pose.tasks.thresholds import MAX_DISTANCE, TAG, tune_thresholds

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

TABLE = "COCO"  # of the metrics in metrics/TASK.json
HELD_OUT_PART = 4  # of small sets no more than a quarter is held out
TUNING_IMAGES = 500  # at most: their maps are in memory at once, 2 MB an image of 17 joints at 512 px


@dataclass(frozen=True)
class MultiPerson(Problem):
    """A problem whose network gives heatmaps and tags of all joints."""

    params: MultiInferenceParams  # MultiParams to train
    kind = "multi"
    inference_type = MultiInferenceParams
    terms = ("heatmap", "pull", "push")
    predictions_suffix, predictions_format = ".json", "coco"
    score_digits = 4  # of fractions

    @property
    def outputs(self) -> int:
        """A heatmap of each joint, then a tag map of each."""
        return 2 * len(self.skeleton)

    def build_network(self, params: NetworkParams) -> PoseNetwork:
        net = super().build_network(params)
        if self.loss.empty_bias is not None:
            net.init_output_bias(len(self.skeleton), self.loss.empty_bias)
        return net

    def losses(self, output_BSChw: Tensor, targets: MultiTargets) -> Terms:
        """heatmap; pull and push as in `pose.ops.tag_loss`, means over images and stacks."""
        heatmap_BSKhw, tag_BSKhw = self._split(output_BSChw)
        heatmap = self.loss.loss(heatmap_BSKhw, targets.heatmap_BKhw, targets.mask_BKhw)
        stacks = output_BSChw.shape[1]
        pull, push = tag_loss(tag_BSKhw.flatten(0, 1), targets.cell_BPK.repeat_interleave(stacks, dim=0))
        return {"heatmap": heatmap, "pull": pull.mean(), "push": push.mean()}

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        return self.loss.activate(output_BSChw[:, -1, : len(self.skeleton)])

    def tags(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's tags, BKhw."""
        return self._split(output_BSChw)[1][:, -1]

    def adversarial_inputs(self, output_BSChw: Tensor, targets: MultiTargets) -> tuple[Tensor, Tensor]:
        mask_BKhw = targets.mask_BKhw
        return mask_BKhw * targets.heatmap_BKhw, mask_BKhw * self.heatmaps(output_BSChw)

    def preprocess(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]
    ) -> Inputs:
        """Each image as a centred square that shows all of it, at each scale."""
        refuse_boxes(boxes)
        return letterbox_inputs(images, self.params, scales)

    def maps(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[Maps]:
        """The mean of all outputs' heatmaps; the tags of those at the input's own size, as a vector."""
        size = outputs[0].output_BSChw.shape[-2:]
        heatmaps, tags = [], []
        for output in outputs:
            heatmap_BKhw = output.upright(self.heatmaps(output.output_BSChw).float(), self.skeleton)
            if heatmap_BKhw.shape[-2:] == size:
                tag_BKhw = self.tags(output.output_BSChw).float()
                tags.append(output.upright(tag_BKhw, self.skeleton))
            else:
                heatmap_BKhw = F.interpolate(heatmap_BKhw, size=size, mode="bilinear", align_corners=False)
            heatmaps.append(heatmap_BKhw)
        heatmap = torch.stack(heatmaps).mean(dim=0).cpu().numpy()
        tag = torch.stack(tags, dim=-1).cpu().numpy()
        return [Maps(*one) for one in zip(heatmap, tag, affine_B23.numpy(), strict=True)]

    def group(self, maps: Maps) -> People:
        """The people of one image, in its own px."""
        return group_maps(maps, self.params, self.skeleton)

    def decode(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[People]:
        return [self.group(maps) for maps in self.maps(outputs, affine_B23)]

    def calibrate(self, data: MultiData, predict: PredictRows) -> MultiPerson:
        """If `thresholds.tune`: with the thresholds of the highest AP on held-out images (see `tune`)."""
        if not self.params.thresholds.tune:
            return self
        tuned, images = self.tune(data, predict, ("tags", "distance"))
        found = tuned.params.thresholds
        log.info(
            "thresholds tuned on %d held-out images: grouped by %s, detection %s, tag %s, max_distance %s",
            *(images, found.group_by, found.detection, found.tag, found.max_distance),
        )
        return tuned

    def tune(
        self, data: MultiData, predict: PredictRows, group_by: Sequence[GroupBy]
    ) -> tuple[MultiPerson, int]:
        """With the thresholds of the highest AP on TUNING_IMAGES held-out images; and how many they were.

        group_by: the ways to group that are tried, of equal ones the first is taken. Distance can be the
        better one: of few images, heatmaps generalise before tags do.
        """
        rows = replace(data, max_val=TUNING_IMAGES).rows("val")  # even if training validates on fewer
        maps = [one for outputs, affine_B23 in predict(rows) for one in self.maps(outputs, affine_B23)]

        def score(problem: MultiPerson) -> float:
            return data.evaluate([problem.group(one) for one in maps], rows).metrics().get("AP", 0.0)

        def best(way: GroupBy) -> MultiPerson:
            other, values = ("tag", TAG) if way == "tags" else ("max_distance", MAX_DISTANCE)

            def problem(detection: float, value: float) -> MultiPerson:
                return self.with_thresholds(group_by=way, detection=detection, **{other: value})

            start = getattr(self.params.thresholds, other)
            return problem(*tune_thresholds(lambda *pair: score(problem(*pair)), start, values))

        return max(map(best, group_by), key=score), len(rows)

    def with_thresholds(self, **changes: float | str) -> MultiPerson:
        """The problem with other values of `thresholds`."""
        thresholds = self.params.thresholds.model_copy(update=changes)
        return replace(self, params=self.params.model_copy(update={"thresholds": thresholds}))

    def extra_scores(
        self, data: MultiData, predict: PredictRows, calibration: PredictRows, params: EvaluateParams
    ) -> Scores:
        """The network without its tags, the network on images that it was trained on, and the thresholds.

        Without tags the thresholds are tuned as in training, on the same held-out images, to be fair.
        """
        without = self.with_thresholds(group_by="distance")
        if self.params.thresholds.tune:
            without, _ = without.tune(data, calibration, ("distance",))
        scores: Scores = {f"{TABLE} without tags": without._scores_on(data, predict, data.rows("evaluation"))}
        if params.train_images:
            rows = data.drawn(data.rows("train"), params.train_images)
            scores[f"{TABLE} train"] = self._scores_on(data, predict, rows)
            scores["images"] = {"train": len(rows)}
        scores["grouping"] = {
            "by_tags": float(self.params.thresholds.group_by == "tags"),
            "detection_threshold": self.params.thresholds.detection,
            "tag_threshold": self.params.thresholds.tag,
            "max_distance": without.params.thresholds.max_distance,
        }
        return scores

    def _scores_on(self, data: MultiData, predict: PredictRows, rows: np.ndarray) -> dict[str, float]:
        people = [one for outputs, affine_B23 in predict(rows) for one in self.decode(outputs, affine_B23)]
        return data.evaluate(people, rows).metrics()

    def _split(self, output_BSChw: Tensor) -> tuple[Tensor, Tensor]:
        joints, gain = len(self.skeleton), self.params.tag_gain
        tag_BSKhw = output_BSChw[:, :, joints : 2 * joints]
        # A product would be a pass over the maps, forward and backward.
        return output_BSChw[:, :, :joints], tag_BSKhw if gain == 1 else gain * tag_BSKhw


@dataclass(frozen=True)
class MultiData(ProblemData):
    """The images of a prepared folder.

    Its `validation` images are for the evaluation; some of its `train` images are held out for validation.
    max_val: most rows in `val`, 0 for all.
    """

    images: ImageSet
    params: MultiInferenceParams
    max_val: int
    unit = "images"

    @property
    def source(self) -> ImageSet:
        return self.images

    @property
    def files(self) -> tuple[Path, ...]:
        """The images with their joints, and the annotations that metrics are computed from."""
        return (self.path, *(self.images.annotations(split) for split in SPLITS))

    def rows(self, subset: Subset) -> np.ndarray:
        """Images of a subset; if none are held out, the training images are also validated on."""
        if subset == "evaluation":
            return self.images.rows("validation")
        rows = self.images.rows("train")
        count = self.params.held_out if isinstance(self.params, MultiParams) else 0
        held_out = self.drawn(rows, min(count, len(rows) // HELD_OUT_PART))
        if subset == "train":
            return np.setdiff1d(rows, held_out)
        val = held_out if len(held_out) else rows
        return self.drawn(val, self.max_val or len(val))

    def drawn(self, rows: np.ndarray, most: int) -> np.ndarray:
        """At most `most` of the rows: the first by a hash of the image's id, so that others do not matter."""

        def draw(row: int) -> bytes:
            return hashlib.sha256(f"held out {self.images.id_I[row]}".encode()).digest()

        return np.sort(sorted(rows.tolist(), key=draw)[:most]).astype(int)

    def dataset(
        self, rows: np.ndarray, *, seed: int | None = None, scales: Sequence[float] = ()
    ) -> ImageDataset:
        return ImageDataset(self.images, rows, self.params, seed=seed, scales=scales)

    def evaluate(self, people: Sequence[People], rows: np.ndarray) -> CocoEvaluation:
        """pycocotools' comparison with the annotations. All rows must be of one split."""
        splits = set(self.images.split_I[rows].tolist())
        assert len(splits) == 1, f"rows of the splits {splits}"
        return self._truth(splits.pop()).evaluate(people, self.images.id_I[rows].tolist())

    def score(self, people: Sequence[People], rows: np.ndarray) -> Scores:
        """COCO's ten numbers on all images, the same on those that show a labelled person, and counts.

        On the others every person found is a false one, which the second row does not count.
        """
        return self._scores(self.evaluate(people, rows), rows)

    def tables(self, people: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Precision over recall, and accuracy by joint."""
        return _tables(self.evaluate(people, rows))

    def scores_and_tables(
        self, people: Sequence[People], rows: np.ndarray
    ) -> tuple[Scores, dict[str, pd.DataFrame]]:
        evaluation = self.evaluate(people, rows)
        return self._scores(evaluation, rows), _tables(evaluation)

    def _scores(self, evaluation: CocoEvaluation, rows: np.ndarray) -> Scores:
        people_N = np.isin(self.images.row_N, rows)
        shown = rows[np.isin(rows, self.images.row_N)]
        counts: dict[str, float] = {
            "all": len(rows),
            "with people": len(shown),
            "people": int(people_N.sum()),
        }
        scores: Scores = {TABLE: evaluation.metrics()}
        if len(shown):
            scores[f"{TABLE} with people"] = evaluation.on(self.images.id_I[shown].tolist()).metrics()
        return scores | {"images": counts}

    def results(self, task: str, people: Sequence[People], rows: np.ndarray) -> Results:
        """The people of each image by COCO's id."""
        category = self._truth(self.images.split_I[rows[0]]).category
        ids = self.images.id_I[rows].tolist()
        images = [ImageResult(one, image_id=image_id) for one, image_id in zip(people, ids, strict=True)]
        return Results(images, self.skeleton, len(self.skeleton), task=task, category=category)

    def _truth(self, split: str) -> CocoTruth:
        """Read when first used: COCO's training annotations take long."""
        if split not in self._truths:
            self._truths[split] = CocoTruth(self.images.annotations(split), self.skeleton)
        return self._truths[split]

    @cached_property
    def _truths(self) -> dict[str, CocoTruth]:
        return {}


def _tables(evaluation: CocoEvaluation) -> dict[str, pd.DataFrame]:
    return {"precision": evaluation.precision(), "joints": evaluation.joints()}
