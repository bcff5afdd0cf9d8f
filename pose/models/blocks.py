"""Building blocks of the pose networks. Legend: B images, S stacks, C channels, H W px, h w cells.

ReLU and additions write into a tensor of their own that nothing else needs: a small network's time goes into
passes over memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pose.models.sync_norm import BatchNorm2d

DEPTH = 4  # an hourglass halves its map four times


class PoseNetwork(nn.Module):
    """image_B3HW -> output_BSChw, h = H / 4. heads: the convolution that makes each stack's output."""

    heads: nn.ModuleList

    def count_batches(self) -> None:
        """Count one more batch in every norm in training: one call for what would be one for each norm."""
        counts = [norm.num_batches_tracked for norm in self._norms if norm.training]
        if counts:
            torch._foreach_add_(counts, 1)

    @cached_property
    def _norms(self) -> list[BatchNorm2d]:
        return [module for module in self.modules() if isinstance(module, BatchNorm2d)]

    def init_output_bias(self, channels: int, value: float) -> None:
        """Make the first output channels of every stack begin at about this value instead of about 0."""
        for head in self.heads:
            nn.init.constant_(head.bias[:channels], value)  # type: ignore[index]

    def output_dims(self) -> dict[str, int]:
        """Which dimension of a tensor is that of the output channels, by its name; others have none."""
        return {name: 0 for name in self.state_dict() if name.startswith("heads.")}


class Hourglass(nn.Module):
    """One scale: down by max-pooling, up by nearest neighbour, and a skip. inner: the next smaller scale."""

    def __init__(self, *, skip: nn.Module, before: nn.Module, inner: nn.Module, after: nn.Module):
        super().__init__()
        self.skip, self.before, self.inner, self.after = skip, before, inner, after

    def forward(self, x_BChw: Tensor) -> Tensor:
        skip = self.skip(x_BChw)
        low = self.after(self.inner(self.before(F.max_pool2d(x_BChw, 2))))
        return F.interpolate(low, scale_factor=2.0, mode="nearest").add_(skip)


class Stacked(PoseNetwork):
    """A stem, then hourglass, neck and head for each stack.

    Features and output of a stack are mapped back by 1x1 convolutions and added to the input of the next.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        hourglass: Callable[[], nn.Module],
        neck: Callable[[], nn.Module],
        stacks: int,
        features: int,
        outputs: int,
    ):
        super().__init__()
        self.stem = stem
        self.hourglasses = nn.ModuleList(hourglass() for _ in range(stacks))
        self.necks = nn.ModuleList(neck() for _ in range(stacks))
        self.heads = nn.ModuleList(nn.Conv2d(features, outputs, 1) for _ in range(stacks))
        self.remap_features = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(outputs, features, 1) for _ in range(stacks - 1))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = self.stem(image_BCHW)
        outputs = []
        stacks = zip(self.hourglasses, self.necks, self.heads, strict=True)
        for stack, (hourglass, neck, head) in enumerate(stacks):
            features = neck(hourglass(x))
            output = head(features)
            outputs.append(output)
            if stack < len(self.remap_features):
                x = x + self.remap_features[stack](features) + self.remap_heatmaps[stack](output)
        return torch.stack(outputs, dim=1)

    def output_dims(self) -> dict[str, int]:
        """Those of the heads, and of the convolutions that map an output back to features."""
        back = {f"remap_heatmaps.{stack}.weight": 1 for stack in range(len(self.remap_heatmaps))}
        return super().output_dims() | back


class Residual(nn.Module):
    """Pre-activation bottleneck: BN-ReLU-conv 1x1, 3x3, 1x1, with half the channels inside."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        inside = outputs // 2
        self.bn1, self.conv1 = BatchNorm2d(inputs), nn.Conv2d(inputs, inside, 1)
        self.bn2, self.conv2 = BatchNorm2d(inside), nn.Conv2d(inside, inside, 3, padding=1)
        self.bn3, self.conv3 = BatchNorm2d(inside), nn.Conv2d(inside, outputs, 1)
        self.match = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x_BChw), inplace=True))
        y = self.conv2(F.relu(self.bn2(y), inplace=True))
        y = self.conv3(F.relu(self.bn3(y), inplace=True))
        return y.add_(self.match(x_BChw))


def residuals(features: int, count: int) -> nn.Sequential:
    """`count` residual modules in a row."""
    return nn.Sequential(*(Residual(features, features) for _ in range(count)))


def residual_hourglass(features: int, modules: int, depth: int = DEPTH) -> Hourglass:
    """An hourglass of residuals with equal channels at every scale (arXiv 1603.06937, figure 3)."""
    smallest = depth == 1
    return Hourglass(
        skip=residuals(features, modules),
        before=residuals(features, modules),
        inner=residuals(features, modules) if smallest else residual_hourglass(features, modules, depth - 1),
        after=residuals(features, modules),
    )


def residual_neck(features: int, modules: int) -> nn.Sequential:
    """Residuals and a 1x1 conv-BN-ReLU between an hourglass and its head (arXiv 1603.06937, figure 4)."""
    return nn.Sequential(
        residuals(features, modules),
        nn.Sequential(nn.Conv2d(features, features, 1), BatchNorm2d(features), nn.ReLU(inplace=True)),
    )


def conv_relu(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A plain convolution, padded to keep the size (over the stride), and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2), nn.ReLU(inplace=True)
    )
