"""How published codes name the tensors of the networks that we have in common.

The formats: `bearpaw_hg` (bearpaw/pytorch-pose and anibali/pytorch-stacked-hourglass), `roytseng_hgpose`,
`roytseng_discriminator` and `roytseng_hgpose_ae` (roytseng-tw/adversarial-pose-pytorch), `umich_pose_ae`
(princeton-vl/pose-ae-train). An internal name is that of a tensor in our state dict, an external name that of
the same tensor in a published one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pose.io.errors import UserError
from pose.models.ae_hourglass import AEHourglass
from pose.models.blocks import DEPTH
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass
from pose.models.weights import NO_MEAN

Rules = list[tuple[str, str]]  # patterns in internal names and what replaces them, applied in this order
Tensors = Mapping[str, Tensor]

MAX_LAYERS = 32  # stacks, and modules in each: published networks have up to 8


@dataclass(frozen=True, kw_only=True)
class ExternalFormat:
    """The layout of one published network.

    settings: what our network is built from, read from the tensors' sizes. signature: a tensor that no other
    format has. stem: internal name of the first convolution, of `kernel` px. key, prefix: where checkpoints
    keep the state dict, and what names begin with there. mean: colour (RGB, 0 to 1) that the published code
    subtracts from images.
    """

    name: str
    network: Callable[..., nn.Module]
    settings: Callable[[ExternalTensors], dict[str, Any]]
    rules: Rules
    signature: str
    key: str
    stem: str = "stem.0.weight"
    kernel: int = 7
    prefix: str = "module."
    mean: tuple[float, float, float] = NO_MEAN

    def external_name(self, internal_name: str) -> str:
        name = internal_name
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def matches(self, tensors: Tensors, prefix: str) -> bool:
        """Whether these tensors, each named after `prefix`, are of this format."""
        first = tensors.get(prefix + self.external_name(self.stem))
        return prefix + self.signature in tensors and first is not None and first.shape[-1:] == (self.kernel,)


@dataclass(frozen=True)
class ExternalTensors:
    """A published state dict, looked up by internal names."""

    source: str
    format: ExternalFormat
    prefix: str
    tensors: Tensors

    def name(self, internal_name: str) -> str:
        """The name in the state dict."""
        return self.prefix + self.format.external_name(internal_name)

    def channels(self, internal_name: str) -> tuple[int, int]:
        """Outputs and inputs of a convolution."""
        name = self.name(internal_name)
        found = tuple(self.tensors[name].shape) if name in self.tensors else "nothing"
        if len(found) != 4 or 0 in found:
            expected = "expected the weights of a convolution"
            raise UserError(f"{self.source}: tensor {name}: found {found}, {expected}")
        return int(found[0]), int(found[1])

    def count(self, internal_name: str) -> int:
        """How many of these tensors exist, `{}` in the name being their number from 0."""
        for number in range(MAX_LAYERS + 1):
            if self.name(internal_name.format(number)) not in self.tensors:
                return number
        name = self.name(internal_name.format(MAX_LAYERS))
        raise UserError(f"{self.source}: tensor {name}: expected at most {MAX_LAYERS} of its kind")


# External names


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


# What our networks are built from, read from the tensors' sizes


def _residual_settings(second: str, third: str, outputs: str) -> Callable[[ExternalTensors], dict[str, Any]]:
    """second, third: internal names of the stem's residuals. outputs: the network's word for its channels."""

    def settings(found: ExternalTensors) -> dict[str, Any]:
        channels, features = found.channels("heads.0.weight")
        names = ("stem.0.weight", f"{second}.conv3.weight", f"{third}.conv3.weight")
        return {
            outputs: channels,
            "stacks": found.count("heads.{}.weight"),
            "modules": found.count("necks.0.0.{}.conv1.weight"),
            "features": features,
            "stem": [found.channels(name)[0] for name in names],
        }

    return settings


def _ae_settings(found: ExternalTensors) -> dict[str, Any]:
    outputs, features = found.channels("heads.0.weight")
    wider = found.channels("hourglasses.0.before.0.weight")[0]
    if wider < features:
        name = f"tensor {found.name('hourglasses.0.before.0.weight')}"
        raise UserError(f"{found.source}: {name}: found {wider} channels, expected at least {features}")
    return {
        "outputs": outputs,
        "stacks": found.count("heads.{}.weight"),
        "features": features,
        "increase": wider - features,
        "stem": [found.channels(f"stem.{place}.0.weight")[0] for place in (0, 1, 3)],
    }


_BEARPAW_STEM = {0: "conv1", 1: "bn1", 3: "layer1.0", 5: "layer2.0", 6: "layer3.0"}
_ROYTSENG_STEM = {0: "conv1", 1: "bn1", 3: "res1", 5: "res2", 6: "res3"}
_DISCRIMINATOR_STEM = {0: "conv1", 1: "bn1", 3: "res1", 4: "res2", 5: "res3"}
_ROYTSENG_AE_STEM = {0: "head.0", 1: "head.2", 3: "head.5", 4: "head.7"}
_UMICH_STEM = {0: "pre.0", 1: "pre.1", 3: "pre.3", 4: "pre.4"}

_FORMATS = (
    ExternalFormat(
        name="bearpaw_hg",
        network=StackedHourglass,
        settings=_residual_settings("stem.3", "stem.5", "outputs"),
        rules=_residual_rules(stem=_BEARPAW_STEM, match="downsample.0", outermost=3),
        signature="layer1.0.conv1.weight",
        key="state_dict",
        mean=(0.4404, 0.4440, 0.4327),  # of MPII's training images
    ),
    ExternalFormat(
        name="roytseng_hgpose",
        network=StackedHourglass,
        settings=_residual_settings("stem.3", "stem.5", "outputs"),
        rules=_residual_rules(stem=_ROYTSENG_STEM, match="conv_skip", outermost=0),
        signature="res1.conv1.weight",
        key="netHg",
    ),
    ExternalFormat(
        name="roytseng_discriminator",
        network=Discriminator,
        settings=_residual_settings("stem.3", "stem.4", "joints"),
        rules=_residual_rules(stem=_DISCRIMINATOR_STEM, match="conv_skip", outermost=0),
        signature="res1.conv1.weight",
        kernel=3,
        key="netD",
    ),
    ExternalFormat(
        name="roytseng_hgpose_ae",
        network=AEHourglass,
        settings=_ae_settings,
        rules=_ae_rules(stem=_ROYTSENG_AE_STEM, conv="", in_hourglass="0.0.", neck=("1", "3")),
        signature="head.0.weight",
        stem="stem.0.0.weight",
        key="netHg",
    ),
    ExternalFormat(
        name="umich_pose_ae",
        network=AEHourglass,
        settings=_ae_settings,
        rules=_ae_rules(stem=_UMICH_STEM, conv="conv.", in_hourglass="conv.", neck=("1", "2")),
        signature="pre.0.conv.weight",
        stem="stem.0.0.weight",
        key="state_dict",
        prefix="module.model.",
    ),
)
EXTERNAL_FORMATS = {format.name: format for format in _FORMATS}
