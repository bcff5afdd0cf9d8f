"""The multi-person problem: all people of a picture at once, told apart by tags (associative embedding, arXiv 1611.05424).

Legend: B images, S stacks, C output channels, K joints, P people, H W input px, h w heatmap cells, T tag dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pose.coco_metrics import CocoTruth, Evaluated, to_results
from pose.data.coco import SPLITS, CocoPeople
from pose.data.multi_sample import ImageDataset, MultiBatch, MultiSample, RawMultiBatch, further_sizes, letterbox
from pose.errors import UserError
from pose.files import write_text
from pose.geometry import STRIDE, invert, to_px, transform
from pose.grouping import GroupingParams, group
from pose.heatmap import flip_back
from pose.metrics import Scores
from pose.nets.ae_hourglass import AEHourglass
from pose.nets.hourglass import StackedHourglass
from pose.ops import tag_loss
from pose.params import AEParams, HourglassParams, MultiParams
from pose.people import People
from pose.problem import Box, Part, Terms, View
from pose.skeleton import COCO, Skeleton

EMPTY = -4.0  # logit of an empty cell's heatmap, about 0.02
TABLE = "COCO"  # of the figures in metrics/{task}.json


@dataclass(frozen=True)
class Maps:
    """What the people of an image are read from: heatmap_Khw, tag_KhwT, affine_23 (image px -> input px)."""

    heatmap_Khw: np.ndarray
    tag_KhwT: np.ndarray
    affine_23: np.ndarray


@dataclass(frozen=True)
class MultiPerson:
    """Heatmaps and tags of all joints from one network. by_tags: False groups by distance in the picture, to show what tags are worth."""

    params: MultiParams
    by_tags: bool = True
    skeleton: Skeleton = COCO
    kind: str = "multi"
    results: str = ".json"

    def network(self, params: HourglassParams | AEParams) -> nn.Module:
        """image_B3HW -> output_BSChw: a heatmap of each joint, then a tag map of each, then what nobody reads (AEParams.outputs)."""
        net: AEHourglass | StackedHourglass
        if isinstance(params, AEParams):
            net = AEHourglass(**params.model_dump(exclude={"kind"}))
        else:
            net = StackedHourglass(joints=2 * len(self.skeleton), **params.model_dump(exclude={"kind"}))
        if self.params.loss == "focal":
            for head in net.heads:  # nearly all cells are empty: begin there, not at one half
                nn.init.constant_(head.bias[: len(self.skeleton)], EMPTY)  # type: ignore[index]
        return net

    def losses(self, output_BSChw: Tensor, batch: MultiBatch) -> Terms:
        """heatmap, where the crowd mask lets it look; pull and push as in `ops.tag_loss`.

        mse: squared error, as published, or, with `foreground` > 0, times 1 + foreground * target.
        focal: the maps are logits; |target - p|^focus times their cross-entropy, summed over a map's cells (arXiv 2006.04388, equation 6).
        Each is the mean over images and stacks, as in both published codes (and not the sum over stacks, as for one person).
        """
        heatmap_BSKhw, tag_BSKhw = self._split(output_BSChw)
        target = batch.heatmap_BKhw[:, None].expand_as(heatmap_BSKhw)
        looked_at = batch.mask_Bhw[:, None, None]
        if self.params.loss == "focal":
            entropy = F.binary_cross_entropy_with_logits(heatmap_BSKhw, target, reduction="none")
            error = (target - heatmap_BSKhw.sigmoid()).abs().pow(self.params.focus) * entropy
            heatmap = (looked_at * (1 + self.params.foreground * target) * error).sum(dim=(3, 4)).mean()
        else:
            heatmap = (looked_at * (1 + self.params.foreground * target) * (heatmap_BSKhw - target).square()).mean()
        stacks = output_BSChw.shape[1]
        pull, push = tag_loss(tag_BSKhw.flatten(0, 1), batch.cell_BPK.repeat_interleave(stacks, dim=0))
        return {"heatmap": heatmap, "pull": pull.mean(), "push": push.mean()}

    def heatmaps(self, output_BSChw: Tensor) -> Tensor:
        """The last stack's joints, BKhw, on the scale of the targets."""
        heatmap_BKhw = output_BSChw[:, -1, : len(self.skeleton)]
        return heatmap_BKhw.sigmoid() if self.params.loss == "focal" else heatmap_BKhw

    def game(self, output_BSChw: Tensor, batch: MultiBatch) -> tuple[Tensor, Tensor]:
        """The true heatmaps and the last stack's, BKhw, both empty behind the crowd mask."""
        seen_B1hw = batch.mask_Bhw[:, None]
        return seen_B1hw * batch.heatmap_BKhw, seen_B1hw * self.heatmaps(output_BSChw)

    def maps(self, views: Sequence[View], affine_B23: Tensor) -> list[Maps]:
        """The mean of all views' heatmaps, and the tags of those at the input's own size side by side: means of tags say less."""
        size = views[0].output_BSChw.shape[-2:]
        heatmaps, tags = [], []
        for view in views:
            heatmap_BKhw, tag_BKhw = self.heatmaps(view.output_BSChw).float(), self._split(view.output_BSChw)[1][:, -1].float()
            if view.mirrored:
                heatmap_BKhw, tag_BKhw = (flip_back(part, self.skeleton.flip_index) for part in (heatmap_BKhw, tag_BKhw))
            if heatmap_BKhw.shape[-2:] == size:
                tags.append(tag_BKhw)
            else:
                heatmap_BKhw = F.interpolate(heatmap_BKhw, size=size, mode="bilinear", align_corners=False)
            heatmaps.append(heatmap_BKhw)
        heatmap = torch.stack(heatmaps).mean(dim=0).cpu().numpy()
        tag = torch.stack(tags, dim=-1).cpu().numpy()
        return [Maps(*one) for one in zip(heatmap, tag, affine_B23.numpy(), strict=True)]

    def people(self, maps: Maps) -> People:
        """The people of one image, in its own px, the surest first."""
        found = group(maps.heatmap_Khw, maps.tag_KhwT, self._grouping, skeleton=self.skeleton)
        return replace(found, joint_PK2=transform(invert(maps.affine_23), to_px(found.joint_PK2)))

    def decode(self, views: Sequence[View], affine_B23: Tensor) -> list[People]:
        """The people of each image, in its own px, the surest first."""
        return [self.people(maps) for maps in self.maps(views, affine_B23)]

    def show(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None], scales: Sequence[float]) -> RawMultiBatch:
        """A user's own pictures, each as a centred square that shows all of it."""
        if any(boxes):
            raise UserError("box: this network finds all people of a picture itself, expected no box")
        return RawMultiBatch.of([self._sample(image, scales) for image in images])

    def headline(self, scores: Scores) -> dict[str, float]:
        """AP first; 0 where pycocotools gives none."""
        return {name: scores[TABLE].get(name, 0.0) for name in ("AP", "AP50", "AR")}

    def data(self, prepared: Path, *, watched: int) -> MultiData:
        """The images of a prepared COCO set."""
        return MultiData(CocoPeople(prepared), self.params, watched)

    @property
    def _grouping(self) -> GroupingParams:
        chosen = self.params.thresholds
        return GroupingParams(
            detection_threshold=chosen.detection, tag_threshold=chosen.tag, reach=chosen.reach, tags=self.by_tags, target=self.params.target
        )

    def _split(self, output_BSChw: Tensor) -> tuple[Tensor, Tensor]:
        joints = len(self.skeleton)
        return output_BSChw[:, :, :joints], self.params.tag_gain * output_BSChw[:, :, joints : 2 * joints]

    def _sample(self, image_HW3: np.ndarray, scales: Sequence[float]) -> MultiSample:
        shown, affine = letterbox(image_HW3, self.params.input)
        joints, cells = len(self.skeleton), self.params.input // STRIDE
        return MultiSample(
            image_HW3=shown,
            heatmap_Khw=np.zeros((joints, cells, cells), dtype=np.float32),
            mask_hw=np.ones((cells, cells), dtype=np.uint8),
            cell_PK=np.full((1, joints), -1),
            affine_23=affine,
            row=0,
            others=tuple(letterbox(image_HW3, size) for size in further_sizes(self.params.input, scales)),
        )


@dataclass(frozen=True)
class MultiData:
    """The images of the prepared COCO set. `validation` images are the test; a few of the `train` ones are held out and watched instead."""

    images: CocoPeople
    params: MultiParams
    watched: int
    unit: str = "images"

    @property
    def path(self) -> Path:
        """The file of pictures and joints."""
        return self.images.path

    @property
    def files(self) -> tuple[Path, ...]:
        """That one, and the annotations that figures are computed by."""
        return (self.path, *(self.images.annotations(split) for split in SPLITS))

    def rows(self, part: Part) -> np.ndarray:
        """Images of a part; where nothing is held out, what is trained on is watched too."""
        if part == "test":
            return self.images.rows("validation")
        rows = self.images.rows("train")
        held_out = np.sort(sorted(rows.tolist(), key=self._lot)[: self.params.held_out]).astype(int)
        if part == "train":
            return np.setdiff1d(rows, held_out)
        watched = held_out if len(held_out) else rows
        return np.sort(sorted(watched.tolist(), key=self._lot)[: self.watched or None]).astype(int)

    def name(self, row: int) -> str:
        """Of the image."""
        return self.images.name(row)

    def sample_of(self, part: Part, most: int) -> np.ndarray:
        """At most `most` images of a part, drawn by lot."""
        return np.sort(sorted(self.rows(part).tolist(), key=self._lot)[:most]).astype(int)

    def dataset(self, rows: np.ndarray, *, seed: int, augment: bool, scales: Sequence[float] = ()) -> ImageDataset:
        """Samples of these rows."""
        return ImageDataset(self.images, rows, self.params, seed=seed, augment=augment, scales=scales)

    def unmeasured(self, rows: np.ndarray) -> str:
        """AP is a number whoever is there."""
        return ""

    def evaluate(self, found: Sequence[People], rows: np.ndarray) -> Evaluated:
        """pycocotools' comparison with the annotations; all rows are of one split."""
        splits = set(self.images.split_I[rows].tolist())
        assert len(splits) == 1, f"rows of the splits {splits}"
        return self._truth(splits.pop()).evaluate(found, self.images.id_I[rows].tolist())

    def score(self, found: Sequence[People], rows: np.ndarray) -> Scores:
        """The ten numbers, and how many images and people they are of."""
        people_N = np.isin(self.images.row_N, rows)
        counts: dict[str, float] = {
            "all": len(rows),
            "with people": len(np.unique(self.images.row_N[people_N])),
            "people": int(people_N.sum()),
        }
        return {TABLE: self.evaluate(found, rows).figures(), "images": counts}

    def tables(self, found: Sequence[People], rows: np.ndarray) -> dict[str, pd.DataFrame]:
        """Precision over recall, and joint by joint."""
        evaluated = self.evaluate(found, rows)
        return {"precision": evaluated.precision(), "joints": evaluated.joints()}

    def write(self, path: Path, task: str, found: Sequence[People], rows: np.ndarray) -> None:
        """COCO's result format, as its evaluation server takes it; it has no place for the task's name."""
        split = self.images.split_I[rows[0]]
        results = to_results(found, self.images.id_I[rows].tolist(), category=self._truth(split).category)
        write_text(path, json.dumps(results, separators=(",", ":")) + "\n")

    def _lot(self, row: int) -> bytes:
        # By the image's own number: which others there are moves nobody's place among them.
        return hashlib.sha256(f"held out {self.images.id_I[row]}".encode()).digest()

    def _truth(self, split: str) -> CocoTruth:
        """Read when it is first asked for: the whole of COCO takes long, and most of the time one split is wanted."""
        if split not in self._read:
            self._read[split] = CocoTruth(self.images.annotations(split))
        return self._read[split]

    @cached_property
    def _read(self) -> dict[str, CocoTruth]:
        return {}
