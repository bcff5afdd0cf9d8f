"""The stacked hourglass (arXiv 1603.06937, figures 3 and 4). Legend: B images, S stacks, K joints, H W px, h w cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pose.nets.blocks import HourglassModule, Residual, conv_bn_relu, residuals

DEPTH = 4  # an hourglass halves its map four times


class StackedHourglass(nn.Module):
    """image_B3HW -> output_BSKhw, h = H / 4. H and W must be multiples of 64: two halvings in the stem, four in an hourglass.

    stem: channels of the first convolution and of the two residuals after it; the paper's are 64, 128, 128. They work at a half
    and a quarter of the input's size, where most of a small network's time goes: narrow ones make it several times faster.
    """

    def __init__(self, *, joints: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        super().__init__()
        first, second, third = stem
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 7, stride=2, padding=3),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            Residual(first, second),
            nn.MaxPool2d(2),
            Residual(second, third),
            Residual(third, features),
        )
        self.hourglasses = nn.ModuleList(HourglassModule(DEPTH, features, modules) for _ in range(stacks))
        self.necks = nn.ModuleList(nn.Sequential(residuals(features, modules), conv_bn_relu(features)) for _ in range(stacks))
        self.heads = nn.ModuleList(nn.Conv2d(features, joints, 1) for _ in range(stacks))
        self.remap_features = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(joints, features, 1) for _ in range(stacks - 1))

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = self.stem(image_B3HW)
        outputs = []
        for stack, (hourglass, neck, head) in enumerate(zip(self.hourglasses, self.necks, self.heads, strict=True)):
            features = neck(hourglass(x))
            heatmaps = head(features)
            outputs.append(heatmaps)
            if stack < len(self.remap_features):
                x = x + self.remap_features[stack](features) + self.remap_heatmaps[stack](heatmaps)
        return torch.stack(outputs, dim=1)
