"""The single-person problem: one person per crop, a heatmap per joint (see `pose.tasks.base`).

B people, S stacks, K joints, H W input px, h w heatmap cells, N rows of the prepared set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pose.data.batch import Inputs, SingleTargets
from pose.data.person_set import PersonSet
from pose.data.single_samples import PersonDataset, crops
from pose.keypoints.heatmap import decode
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.metrics.oks import CocoTruth
from pose.metrics.pck import (
    Scores,
    accuracy_curve,
    per_joint_table,
    person_truth,
    single_person_scores,
)
from pose.params import SingleInferenceParams
from pose.tasks.arrays import Box, box_affine, one_person
from pose.tasks.base import Problem, ProblemData, Subset, Terms, TTAOutput, spread_evenly

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SinglePerson(Problem):
    """A problem whose network sees crops of one person (arXiv 1603.06937)."""

    params: SingleInferenceParams  # SingleParams to train
    kind = "single"
    inference_type = SingleInferenceParams
    terms = ("heatmap",)
    predictions_suffix, predictions_format = ".h5", "rows"
    score_digits = 3  # of percent

    @property
    def outputs(self) -> int:
        return len(self.skeleton)

    def losses(self, output_BSChw: Tensor, targets: SingleTargets) -> Terms:
        heatmap = self.loss.loss(self._joints(output_BSChw), targets.heatmap_BKhw, targets.mask_BK)
        return {"heatmap": heatmap}

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        return self.loss.activate(self._joints(output_BSChw)[:, -1])

    def adversarial_inputs(self, output_BSChw: Tensor, targets: SingleTargets) -> tuple[Tensor, Tensor]:
        mask_BK11 = self.loss.counts(targets.heatmap_BKhw, targets.mask_BK)[..., None, None]
        return mask_BK11 * targets.heatmap_BKhw, mask_BK11 * self.heatmaps(output_BSChw)

    def preprocess(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]
    ) -> Inputs:
        """Crops around the boxes, or of the whole images."""
        affines = [box_affine(image, box, self.params) for image, box in zip(images, boxes, strict=True)]
        return crops(zip(images, affines, strict=True), affines, self.params.input_size, scales)

    def decode(self, outputs: Sequence[TTAOutput], affine_B23: Tensor) -> list[People]:
        """One person for each image, from the mean of the outputs' heatmaps."""
        joint_cell, score_BK = decode(self.mean_heatmap(outputs), target=self.params.target)
        found = joint_cell.cpu().double().numpy(), score_BK.cpu().numpy(), affine_B23.numpy()
        return [one_person(*person) for person in zip(*found, strict=True)]

    def mean_heatmap(self, outputs: Sequence[TTAOutput]) -> Tensor:
        """The mean of the outputs' heatmaps, BKhw, of the images as they are: of those that show a cell."""
        upright = [one.upright(self.heatmaps(one.output_BSChw), self.skeleton) for one in outputs]
        stacked = torch.stack(upright)
        mean = stacked.nanmean if any(one.zoom != 1 for one in outputs) else stacked.mean
        return mean(dim=0).float()

    def _joints(self, output_BSChw: Tensor) -> Tensor:
        return output_BSChw if output_BSChw.shape[2] == self.outputs else output_BSChw[:, :, : self.outputs]


@dataclass(frozen=True)
class SingleData(ProblemData):
    """The people of a prepared file.

    People held out of training validate it, and are evaluated together with the test people: weights called
    `best` were chosen on a part of those that they are evaluated on, which flatters them a little. max_val:
    most rows in `val`, 0 for all.
    """

    people: PersonSet
    params: SingleInferenceParams
    max_val: int
    unit = "people"

    @property
    def source(self) -> PersonSet:
        return self.people

    def rows(self, subset: Subset) -> np.ndarray:
        """People of a subset who have joints."""
        if subset == "evaluation":
            return np.sort(np.concatenate([self.people.rows("validation"), self.people.rows("test")]))
        if subset == "train":
            return self.people.rows("train")
        return spread_evenly(self.people.rows("validation"), self.max_val)

    def name(self, row: int) -> str:
        """Image and row, since an image may show several people."""
        return f"{self.people.name(row)} (row {row})"

    def dataset(
        self, rows: np.ndarray, *, seed: int | None = None, scales: Sequence[float] = ()
    ) -> PersonDataset:
        return PersonDataset(self.people, rows, self.params, seed=seed, scales=scales)

    def missing_metric_reason(self, rows: np.ndarray) -> str:
        truth = person_truth(self.people, rows)
        if (truth.length_N > 0).any() or (truth.head_size_N > 0).any():
            return ""
        if self.people.mpii_N[rows].all():
            source = "mpii_human_pose_v1_u12_1.mat in data.root has those of MPII"
            return f"have no head size, the unit of PCKh: {source}"
        one, other = (self.skeleton.joints[k] for k in self.skeleton.reference or (0, 0))
        return f"have no labelled {one} and {other} together, whose distance is the unit of PCK"

    def score(self, people: Sequence[People], rows: np.ndarray) -> Scores:
        """PCKh, PCK and counts, of one predicted person for each row (see `pose.metrics.pck`).

        Of people with COCO's annotations also its ten numbers, if the rows are all of the people of their
        images who can be cropped; the boxes are the annotated ones. Others count as not found.
        """
        scores = single_person_scores(_joints_of(people), person_truth(self.people, rows))
        image_N, split = self.people.image_id_N, self.people.split_N[rows[0]]
        images, place_N = np.unique(image_N[rows], return_inverse=True)
        all_rows = self.people.rows(split)
        if images.min(initial=0) < 0 or np.isin(image_N[all_rows], images).sum() > len(rows):
            return scores
        people_of: list[list[People]] = [[] for _ in images]
        for one, place in zip(people, place_N.tolist(), strict=True):
            people_of[place].append(one)
        found = [People.join(some, len(self.skeleton)) for some in people_of]
        if split not in self._truths:  # reading it takes long
            self._truths[split] = CocoTruth(self.people.annotations(split), self.skeleton)
        return scores | {"COCO": self._truths[split].evaluate(found, images.tolist()).metrics()}

    def tables(self, people: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Accuracy over thresholds, and by joint."""
        predicted_NK2, truth = _joints_of(people), person_truth(self.people, rows)
        return {
            "accuracy": accuracy_curve(predicted_NK2, truth),
            "joints": per_joint_table(predicted_NK2, truth),
        }

    def results(self, task: str, people: Sequence[People], rows: np.ndarray) -> Results:
        """Each person by their row in the prepared set."""
        images = [ImageResult(one, row=row) for one, row in zip(people, rows.tolist(), strict=True)]
        return Results(images, self.skeleton, len(self.skeleton), task=task)

    @cached_property
    def _truths(self) -> dict[str, CocoTruth]:
        return {}  # by split


def _joints_of(people: Sequence[People]) -> np.ndarray:
    return np.concatenate([person.joint_PK2 for person in people])
