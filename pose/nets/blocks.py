"""Building blocks of the residual hourglass (arXiv 1603.06937). Legend: B images, C channels, h w cells."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Pre-activation bottleneck: BN-ReLU-conv 1x1, 3x3, 1x1, with half the channels inside."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        inside = outputs // 2
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, inside, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(inside), nn.Conv2d(inside, inside, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(inside), nn.Conv2d(inside, outputs, 1)
        self.match = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x_BChw)))
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        return self.match(x_BChw) + y


def residuals(features: int, count: int) -> nn.Sequential:
    """`count` residual modules in a row."""
    return nn.Sequential(*(Residual(features, features) for _ in range(count)))


def conv_bn_relu(features: int) -> nn.Sequential:
    """The 1x1 convolution between an hourglass and its heatmaps."""
    return nn.Sequential(nn.Conv2d(features, features, 1), nn.BatchNorm2d(features), nn.ReLU())


class HourglassModule(nn.Module):
    """One hourglass: down by max-pooling to 1 / 2^depth, up by nearest neighbour, a skip of residuals at every scale."""

    def __init__(self, depth: int, features: int, modules: int):
        super().__init__()
        self.skip = residuals(features, modules)
        self.before = residuals(features, modules)
        self.inner = HourglassModule(depth - 1, features, modules) if depth > 1 else residuals(features, modules)
        self.after = residuals(features, modules)

    def forward(self, x_BChw: Tensor) -> Tensor:
        skip = self.skip(x_BChw)
        low = self.after(self.inner(self.before(F.max_pool2d(x_BChw, 2))))
        return skip + F.interpolate(low, scale_factor=2.0, mode="nearest")
