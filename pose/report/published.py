"""Published metrics, as data: single person in percent, multi-person in fractions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pose.metrics.oks import TEN

# In the order in which papers print them.
GROUPS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")


@dataclass(frozen=True)
class Published:
    """A network and the images it was evaluated on. metrics: by column; single: PCKh@0.5."""

    problem: Literal["single", "multi"]
    network: str
    images: str
    metrics: dict[str, float]
    source: str
    url: str


def _by_group(mean: float, *groups: float) -> dict[str, float]:
    return {"Mean": mean, **dict(zip(GROUPS, groups, strict=True))}


def _ap(*ten: float) -> dict[str, float]:
    return dict(zip(TEN, ten, strict=True))


NEWELL = ("Newell et al. 2016", "https://arxiv.org/abs/1603.06937")
CHOU = ("Chou et al. 2017", "https://arxiv.org/abs/1707.02439")
ANIBALI = ("anibali, README", "https://github.com/anibali/pytorch-stacked-hourglass")
BEARPAW = ("bearpaw, README", "https://github.com/bearpaw/pytorch-pose")
PRINCETON = ("princeton-vl, README", "https://github.com/princeton-vl/pytorch_stacked_hourglass")
HIGHER_HRNET = ("HigherHRNet, README", "https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation")
ORIGINAL = ("original project, README", "https://github.com/roytseng-tw/adversarial-pose-pytorch")

AE = "Associative embedding"
PUBLISHED = (
    Published(
        "single", "Hourglass, 8 stacks", "MPII test",
        _by_group(90.9, 98.2, 96.3, 91.2, 87.1, 90.1, 87.4, 83.6), *NEWELL,
    ),
    Published(
        "single", "Self-adversarial training", "MPII test",
        _by_group(91.8, 98.2, 96.8, 92.2, 88.0, 91.3, 89.1, 84.9), *CHOU,
    ),
    Published("single", "Hourglass, 8 stacks", "MPII validation", {"Mean": 88.1}, *NEWELL),
    Published("single", "Hourglass, 2 stacks", "MPII validation", {"Mean": 87.33}, *ANIBALI),
    Published("single", "Hourglass, 8 stacks", "MPII validation", {"Mean": 88.78}, *BEARPAW),
    Published("single", "Hourglass, 8 stacks", "MPII validation", {"Mean": 90.2}, *PRINCETON),
    Published("multi", f"{AE}, one scale", "COCO test-dev", {"AP": 0.566}, *HIGHER_HRNET),
    Published("multi", f"{AE}, several scales", "COCO test-dev", {"AP": 0.630}, *HIGHER_HRNET),
    Published("multi", f"{AE}, refined", "COCO test-dev", {"AP": 0.655}, *HIGHER_HRNET),
    Published(
        "multi", f"{AE}, the author's weights", "the 500 images of valid_id",
        _ap(0.593, 0.820, 0.649, 0.505, 0.727, 0.639, 0.839, 0.685, 0.540, 0.779), *ORIGINAL,
    ),
    Published(
        "multi", f"{AE}, the original project's own run (150 epochs)", "the 500 images of valid_id",
        _ap(0.518, 0.768, 0.556, 0.427, 0.659, 0.567, 0.789, 0.602, 0.466, 0.710), *ORIGINAL,
    ),
)  # fmt: skip
