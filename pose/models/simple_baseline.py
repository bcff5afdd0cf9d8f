"""The simple baseline (arXiv 1804.06208). Legend: B images, C channels, H W px, h w cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from pose.models.blocks import PoseNetwork
from pose.models.sync_norm import BatchNorm2d


class SimpleBaseline(PoseNetwork):
    """image_B3HW -> output_B1Chw, h = H / 4. H and W are multiples of 4 * 2 ** (stages - 1).

    The encoder is a ResNet of basic blocks (arXiv 1512.03385): a stem to a quarter of the size, then a stage
    for each of `widths`, each at half the size of the one before. The decoder has a transposed convolution
    for each of these halvings.
    """

    def __init__(self, *, outputs: int, stem: int, widths: Sequence[int], blocks: int, upsampled: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False),
            BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.encoder = nn.Sequential(
            _stage(stem, widths[0], blocks, stride=1),
            *(_stage(before, width, blocks, stride=2) for before, width in pairwise(widths)),
        )
        halvings = len(widths) - 1
        self.decoder = nn.Sequential(
            *(_upsample(upsampled if number else widths[-1], upsampled) for number in range(halvings))
        )
        self.heads = nn.ModuleList([nn.Conv2d(upsampled, outputs, 1)])

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.heads[0](self.decoder(self.encoder(self.stem(image_B3HW))))[:, None]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a skip connection (arXiv 1512.03385, figure 5, left)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs)
        self.match: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.match = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), BatchNorm2d(outputs)
            )

    def forward(self, x_BChw: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_BChw)), inplace=True)))
        return F.relu(y.add_(self.match(x_BChw)), inplace=True)


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _upsample(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size by a 4x4 transposed convolution (arXiv 1804.06208, section 2)."""
    deconvolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(deconvolution, BatchNorm2d(outputs), nn.ReLU(inplace=True))
