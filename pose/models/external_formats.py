"""How published codes name the tensors of the networks that we have in common: one table.

`bearpaw_hg` is of bearpaw/pytorch-pose and anibali/pytorch-stacked-hourglass, `roytseng_hgpose`,
`roytseng_discriminator` and `roytseng_hgpose_ae` of roytseng-tw/adversarial-pose-pytorch, `umich_pose_ae` of
princeton-vl/pose-ae-train. An internal name is that of a tensor in our state dict, an external name that of
the same tensor in a published one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pose.io.errors import UserError
from pose.models.ae_hourglass import AEHourglass
from pose.models.blocks import DEPTH, Stacked
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass
from pose.models.weights import NO_MEAN

Rules = list[tuple[str, str]]  # patterns in internal names and what replaces them, applied in this order
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ExternalFormat:
    """The layout of one published network.

    stem: internal names of the convolutions whose channels make up `stem`. kernel: of the first one, px.
    key, prefix: where checkpoints keep the state dict, and what names begin with there. mean: colour (RGB, 0
    to 1) that the published code subtracts from images.
    """

    name: str
    network: Callable[..., Stacked]
    rules: Rules
    stem: tuple[str, str, str]
    key: str
    kernel: int = 7
    prefix: str = "module."
    mean: tuple[float, float, float] = NO_MEAN

    def external_name(self, internal_name: str) -> str:
        name = internal_name
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def matches(self, external: Tensors) -> bool:
        """Whether tensors of these external names, without a prefix, are of this format, or most of them.

        Another code may call its first layers the same.
        """
        first, second = (external.get(self.external_name(name)) for name in self.stem[:2])
        if first is None or second is None or first.shape[-1:] != (self.kernel,):
            return False
        size = {"increase": 1} if self.network is AEHourglass else {"modules": 1}
        with torch.device("meta"):
            net = self.network(outputs=1, stacks=2, features=2, stem=[2, 2, 2], **size)
        own = {_without_numbers(self.external_name(name)) for name in net.state_dict()}
        return sum(_without_numbers(name) in own for name in external) > 0.5 * len(external)

    def settings(self, external: Tensors) -> dict[str, Any]:
        """What our network is built from, read from the shapes of its tensors."""

        def channels(internal_name: str) -> tuple[int, int]:
            name = self.external_name(internal_name)
            tensor = external.get(name)
            if tensor is None or tensor.ndim != 4:
                found = "nothing" if tensor is None else tuple(tensor.shape)
                raise UserError(f"tensor {name}: found {found}, expected the weights of a convolution")
            return tensor.shape[0], tensor.shape[1]

        def count(internal_name: str) -> int:
            names = (self.external_name(internal_name.format(number)) for number in itertools.count())
            return sum(1 for _ in itertools.takewhile(external.__contains__, names))

        outputs, features = channels("heads.0.weight")
        found: dict[str, Any] = {"outputs": outputs, "stacks": count("heads.{}.weight"), "features": features}
        if self.network is AEHourglass:
            found["increase"] = max(channels("hourglasses.0.before.0.weight")[0] - features, 0)
        else:
            found["modules"] = count("necks.0.0.{}.conv1.weight")
        return found | {"stem": [channels(name)[0] for name in self.stem]}


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "", name)


def _residual_rules(*, stem: Mapping[int, str], match: str, outermost: int) -> Rules:
    """For codes that keep an hourglass as a table, `hg.STACK.hg.SCALE.PLACE`, where this project nests them.

    outermost: row of the largest scale.
    """
    rules = [(rf"^stem\.{place}\.", f"{name}.") for place, name in stem.items()]
    for depth in range(DEPTH):
        for place, part in enumerate(("skip", "before", "after", "inner")):
            # Followed by a digit: an `inner` that holds residuals, not the next scale.
            pattern = rf"^hourglasses\.(\d+)\.(?:inner\.){{{depth}}}{part}\.(?=\d)"
            rules.append((pattern, rf"hg.\1.hg.{abs(outermost - depth)}.{place}."))
    return [
        *rules,
        (r"^necks\.(\d+)\.0\.", r"res.\1."),
        (r"^necks\.(\d+)\.1\.", r"fc.\1."),
        (r"^heads\.", "score."),
        (r"^remap_features\.", "fc_."),
        (r"^remap_heatmaps\.", "score_."),
        (r"\.match\.", f".{match}."),
    ]


def _ae_rules(*, stem: Mapping[int, str], conv: str, in_hourglass: str, neck: tuple[str, str]) -> Rules:
    """conv, in_hourglass: what stands between a layer's name and `weight`."""
    necks = enumerate(neck)
    return [
        *((rf"^stem\.{place}\.0\.", f"{name}.{conv}") for place, name in stem.items()),
        *((rf"^necks\.(\d+)\.{place}\.0\.", rf"features.\1.{name}.{conv}") for place, name in necks),
        (r"^hourglasses\.(\d+)\.", r"features.\1.0."),
        (r"\bskip\.0\.", f"up1.{in_hourglass}"),
        (r"\bbefore\.0\.", f"low1.{in_hourglass}"),
        (r"\binner\.0\.", f"low2.{in_hourglass}"),
        (r"\bafter\.0\.", f"low3.{in_hourglass}"),
        (r"\binner\.", "low2."),
        (r"^heads\.(\d+)\.", rf"outs.\1.{conv}"),
        (r"^remap_features\.(\d+)\.", rf"merge_features.\1.conv.{conv}"),
        (r"^remap_heatmaps\.(\d+)\.", rf"merge_preds.\1.conv.{conv}"),
    ]


_BEARPAW_STEM = {0: "conv1", 1: "bn1", 3: "layer1.0", 5: "layer2.0", 6: "layer3.0"}
_ROYTSENG_STEM = {0: "conv1", 1: "bn1", 3: "res1", 5: "res2", 6: "res3"}
_DISCRIMINATOR_STEM = {0: "conv1", 1: "bn1", 3: "res1", 4: "res2", 5: "res3"}
_ROYTSENG_AE_STEM = {0: "head.0", 1: "head.2", 3: "head.5", 4: "head.7"}
_UMICH_STEM = {0: "pre.0", 1: "pre.1", 3: "pre.3", 4: "pre.4"}
_HOURGLASS_WEIGHTS = ("stem.0.weight", "stem.3.conv3.weight", "stem.5.conv3.weight")
_AE_WEIGHTS = ("stem.0.0.weight", "stem.1.0.weight", "stem.3.0.weight")

_FORMATS = (
    ExternalFormat(
        name="bearpaw_hg",
        network=StackedHourglass,
        rules=_residual_rules(stem=_BEARPAW_STEM, match="downsample.0", outermost=3),
        stem=_HOURGLASS_WEIGHTS,
        key="state_dict",
        mean=(0.4404, 0.4440, 0.4327),  # of MPII's training images
    ),
    ExternalFormat(
        name="roytseng_hgpose",
        network=StackedHourglass,
        rules=_residual_rules(stem=_ROYTSENG_STEM, match="conv_skip", outermost=0),
        stem=_HOURGLASS_WEIGHTS,
        key="netHg",
    ),
    ExternalFormat(
        name="roytseng_discriminator",
        network=Discriminator,
        rules=_residual_rules(stem=_DISCRIMINATOR_STEM, match="conv_skip", outermost=0),
        stem=("stem.0.weight", "stem.3.conv3.weight", "stem.4.conv3.weight"),
        kernel=3,
        key="netD",
    ),
    ExternalFormat(
        name="roytseng_hgpose_ae",
        network=AEHourglass,
        rules=_ae_rules(stem=_ROYTSENG_AE_STEM, conv="", in_hourglass="0.0.", neck=("1", "3")),
        stem=_AE_WEIGHTS,
        key="netHg",
    ),
    ExternalFormat(
        name="umich_pose_ae",
        network=AEHourglass,
        rules=_ae_rules(stem=_UMICH_STEM, conv="conv.", in_hourglass="conv.", neck=("1", "2")),
        stem=_AE_WEIGHTS,
        key="state_dict",
        prefix="module.model.",
    ),
)
EXTERNAL_FORMATS = {format.name: format for format in _FORMATS}
