"""The single-person problem: one person per crop, a heatmap per joint.

Legend: B people, S stacks, K joints, H W input px, h w heatmap cells, N rows of the prepared set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from pose.data.lsp_mpii import LspMpii
from pose.data.sample import Batch, PersonDataset
from pose.geometry import invert, to_px, transform
from pose.heatmap import decode, flip_back
from pose.metrics import Scores, single_person_scores
from pose.nets.hourglass import StackedHourglass
from pose.params import NetworkParams, SingleParams
from pose.people import People
from pose.skeleton import MPII, Skeleton

Terms = dict[str, Tensor]  # named scalar losses, before weighting


@dataclass(frozen=True)
class SinglePerson:
    """Stacked hourglass on crops (arXiv 1603.06937): what it is built from, taught and scored by."""

    params: SingleParams
    skeleton: Skeleton = MPII

    def network(self, params: NetworkParams) -> nn.Module:
        """image_B3HW -> output_BSKhw."""
        return StackedHourglass(joints=len(self.skeleton), **params.model_dump())

    def losses(self, output_BSKhw: Tensor, batch: Batch) -> Terms:
        """The heatmap term, mean over people and joints, summed over stacks: each is supervised. Unlabelled joints count or not
        as `mask_BK` says.

        mse: squared error of the map, as published. With `foreground` > 0 a cell counts 1 + foreground * target times, since plain
        squared error first learns that nearly all cells are empty, and stays there long.
        cross_entropy: the map's softmax over its cells against the target as a distribution; of joints within the crop alone, for a
        distribution cannot be empty.
        """
        target = batch.heatmap_BKhw[:, None]
        if self.params.loss == "cross_entropy":
            mass_B1K = target.sum(dim=(3, 4))
            share_B1Kn = (target / mass_B1K.clamp(min=1e-6)[..., None, None]).flatten(3)
            error_BSK = -(share_B1Kn * output_BSKhw.flatten(3).log_softmax(dim=3)).sum(dim=3)
            counts_B1K = batch.mask_BK[:, None] * (mass_B1K > 0)
            return {"heatmap": (counts_B1K * error_BSK).mean(dim=(0, 2)).sum()}
        weight = batch.mask_BK[:, None, :, None, None] * (1 + self.params.foreground * target)
        error_BSKhw = weight * (output_BSKhw - target).square()
        return {"heatmap": error_BSKhw.mean(dim=(0, 2, 3, 4)).sum()}

    def heatmaps(self, output_BSKhw: Tensor) -> Tensor:
        """The last stack's joints, BKhw, on the scale of the targets: peak 1 where the network is sure."""
        last = output_BSKhw[:, -1]
        if self.params.loss == "cross_entropy":  # a Gaussian of peak 1 has the mass 2 pi sigma^2
            return last.flatten(2).softmax(dim=2).view_as(last) * (2 * math.pi * self.params.sigma**2)
        return last

    def mirrored(self, output_BSKhw: Tensor) -> Tensor:
        """The output for a mirrored image, as it would be for the image."""
        return flip_back(output_BSKhw.flatten(0, 1), self.skeleton.flip_index).unflatten(0, output_BSKhw.shape[:2])

    def decode(self, output_BSKhw: Tensor, batch: Batch) -> list[People]:
        """One person an image, in image px."""
        joint_cell, score_BK = decode(self.heatmaps(output_BSKhw).float())
        joint_px = to_px(joint_cell.double().cpu().numpy())
        scores = score_BK.cpu().numpy()
        found = []
        for joint_K2, score_K, affine in zip(joint_px, scores, batch.affine_B23.numpy(), strict=True):
            joint = transform(invert(affine), joint_K2)
            found.append(People(joint[None], score_K[None], score_K.mean(keepdims=True)))
        return found

    def score(self, found: Sequence[People], people: LspMpii, rows: np.ndarray) -> Scores:
        """PCKh, PCK and counts of one predicted person for each row of the prepared set; see `pose.metrics`."""
        return single_person_scores(
            np.concatenate([person.joint_PK2 for person in found]),
            people.joint_NK2[rows],
            people.labelled_NK[rows],
            head_size_N=people.head_size_N[rows],
            lsp_N=people.source_N[rows] != "mpii",
        )

    def headline(self, scores: Scores) -> dict[str, float]:
        """The few figures that a curve over training shows; the first is the one by which weights are called best."""
        names = {"PCKh@0.5": ("PCKh", "0.5"), "PCK@0.2": ("PCK", "0.2"), "PCKh@0.1": ("PCKh", "0.1"), "AUC": ("PCKh", "AUC")}
        return {name: scores[table][key] for name, (table, key) in names.items() if key in scores.get(table, {})}

    def dataset(self, people: LspMpii, rows: np.ndarray, *, seed: int, augment: bool) -> PersonDataset:
        """Samples of these rows."""
        return PersonDataset(people, rows, self.params, seed=seed, augment=augment)
