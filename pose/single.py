"""The single-person problem: one person per crop, a heatmap per joint.

Legend: B people, S stacks, K joints, H W input px, h w heatmap cells, N rows of the prepared set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pose.data.lsp_mpii import LspMpii
from pose.data.sample import PERSON_PX, Batch, PersonDataset, RawBatch, Sample, crop, person_affine
from pose.errors import UserError
from pose.files import written_whole
from pose.geometry import STRIDE, invert, to_px, transform
from pose.heatmap import decode, flip_back
from pose.metrics import Scores, accuracy_curve, per_joint_table, single_person_scores
from pose.nets.hourglass import StackedHourglass
from pose.params import AEParams, HourglassParams, SingleParams
from pose.people import People
from pose.problem import Box, Part, Terms, View, spread
from pose.skeleton import MPII, Skeleton

WHOLE_IMAGE = 0.8  # LSP's rule: in a picture of one person, height is 0.8 of the longer side, so a crop of 1.25 shows all of it
BOX = 1.0  # height of a person over the longer side of a box around them


@dataclass(frozen=True)
class SinglePerson:
    """Stacked hourglass on crops (arXiv 1603.06937): what it is built from, taught and scored by."""

    params: SingleParams
    skeleton: Skeleton = MPII
    kind: str = "single"
    results: str = ".h5"

    def network(self, params: HourglassParams | AEParams) -> nn.Module:
        """image_B3HW -> output_BSKhw."""
        return StackedHourglass(joints=len(self.skeleton), **params.model_dump(exclude={"kind"}))

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

    def game(self, output_BSKhw: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The true heatmaps and the last stack's, BKhw, both empty for joints that the loss leaves out."""
        counts_BK = batch.mask_BK
        if self.params.loss == "cross_entropy":
            counts_BK = counts_BK * (batch.heatmap_BKhw.sum(dim=(2, 3)) > 0)
        seen_BK11 = counts_BK[..., None, None]
        return seen_BK11 * batch.heatmap_BKhw, seen_BK11 * self.heatmaps(output_BSKhw)

    def decode(self, views: Sequence[View], affine_B23: Tensor) -> list[People]:
        """One person an image, in image px; by the mean of the views' heatmaps."""
        heatmaps = [self.heatmaps(view.output_BSChw) for view in views]
        upright = [
            flip_back(heatmap, self.skeleton.flip_index) if view.mirrored else heatmap
            for view, heatmap in zip(views, heatmaps, strict=True)
        ]
        joint_cell, score_BK = decode(torch.stack(upright).mean(dim=0).float(), target=self.params.target)
        joint_px = to_px(joint_cell.double().cpu().numpy())
        scores = score_BK.cpu().numpy()
        found = []
        for joint_K2, score_K, affine in zip(joint_px, scores, affine_B23.numpy(), strict=True):
            joint = transform(invert(affine), joint_K2)
            found.append(People(joint[None], score_K[None], score_K.mean(keepdims=True)))
        return found

    def show(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]) -> RawBatch:
        """A user's own pictures, each with the person in its box, or who fills it, at the one size that crops have."""
        return RawBatch.of([self._sample(image, box) for image, box in zip(images, boxes, strict=True)])

    def _sample(self, image_HW3: np.ndarray, box: Box | None) -> Sample:
        height, width = image_HW3.shape[:2]
        x, y, w, h = box or (0.0, 0.0, float(width), float(height))
        if w <= 0 or h <= 0:
            raise UserError(f"box: found {w} x {h} px, expected a width and a height above 0")
        centre = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
        scale = (WHOLE_IMAGE if box is None else BOX) * max(w, h) / PERSON_PX
        affine = person_affine(centre, scale, params=self.params)
        joints, cells = len(self.skeleton), self.params.input // STRIDE
        return Sample(
            image_HW3=crop(image_HW3, affine, self.params.input),
            gain_3=np.ones(3, dtype=np.float32),
            heatmap_Khw=np.zeros((joints, cells, cells), dtype=np.float32),
            mask_K=np.zeros(joints, dtype=np.float32),
            affine_23=affine,
            row=0,
        )

    def headline(self, scores: Scores) -> dict[str, float]:
        """PCKh and PCK, as far as they are there."""
        names = {"PCKh@0.5": ("PCKh", "0.5"), "PCK@0.2": ("PCK", "0.2"), "PCKh@0.1": ("PCKh", "0.1"), "AUC": ("PCKh", "AUC")}
        return {name: scores[table][key] for name, (table, key) in names.items() if key in scores.get(table, {})}

    def data(self, prepared: Path, *, watched: int) -> SingleData:
        """The people of `lsp_mpii.h5`."""
        return SingleData(LspMpii(prepared), self.params, watched)


@dataclass(frozen=True)
class SingleData:
    """The people of the prepared file: validation people are watched in training, and tested with the test people in the end."""

    people: LspMpii
    params: SingleParams
    watched: int
    unit: str = "people"

    @property
    def path(self) -> Path:
        """The prepared file."""
        return self.people.path

    @property
    def files(self) -> tuple[Path, ...]:
        """That one."""
        return (self.path,)

    def rows(self, part: Part) -> np.ndarray:
        """People of a part who have joints."""
        if part == "test":
            return np.sort(np.concatenate([self.people.rows("validation"), self.people.rows("test")]))
        return self.people.rows("train") if part == "train" else spread(self.people.rows("validation"), self.watched)

    def name(self, row: int) -> str:
        """Image and row, since an image may show several people."""
        return f"{self.people.name(row)} (row {row})"

    def dataset(self, rows: np.ndarray, *, seed: int, augment: bool, scales: Sequence[float] = ()) -> PersonDataset:
        """Samples of these rows; a crop has one size."""
        return PersonDataset(self.people, rows, self.params, seed=seed, augment=augment)

    def unmeasured(self, rows: np.ndarray) -> str:
        """PCKh wants the size of the head, which is in MPII's own file alone; PCK is for people of LSP's sets."""
        who = self._who(rows)
        if who["lsp_N"].any() or (who["head_size_N"] > 0).any():
            return ""
        return "have no head size, which PCKh counts in: mpii_human_pose_v1_u12_1.mat in data.root has those of MPII"

    def score(self, found: Sequence[People], rows: np.ndarray) -> Scores:
        """PCKh, PCK and counts of one predicted person for each row; see `pose.metrics`."""
        return single_person_scores(*self._arrays(found, rows), **self._who(rows))

    def tables(self, found: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Accuracy over thresholds, and joint by joint."""
        arrays, who = self._arrays(found, rows), self._who(rows)
        return {"accuracy": accuracy_curve(*arrays, **who), "joints": per_joint_table(*arrays, **who)}

    def write(self, path: Path, task: str, found: Sequence[People], rows: np.ndarray) -> None:
        """HDF5: joints in image px and their confidence, one row a person; `row` is the person's row in the prepared set."""
        joint_NK2 = np.concatenate([person.joint_PK2 for person in found]).astype(np.float32)
        score_NK = np.concatenate([person.score_PK for person in found]).astype(np.float32)
        with written_whole(path) as temporary, h5py.File(temporary, "w", track_order=False) as file:
            file.attrs.update(task=task, skeleton=MPII.name)
            for key, values in {"joint": joint_NK2, "score": score_NK, "row": rows}.items():
                file.create_dataset(key, data=values, track_times=False)

    def _arrays(self, found: Sequence[People], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.concatenate([person.joint_PK2 for person in found]), self.people.joint_NK2[rows], self.people.labelled_NK[rows]

    def _who(self, rows: np.ndarray) -> dict[str, Any]:
        return {"head_size_N": self.people.head_size_N[rows], "lsp_N": self.people.source_N[rows] != "mpii"}
