"""The networks: what they share, what makes each of them that network, and their parameters."""

from typing import Any

import pytest
import torch
from helpers import user_error
from torch import Tensor, nn

from pose.io.schema import Frozen, parse
from pose.keypoints.geometry import STRIDE
from pose.models.ae_hourglass import AEHourglass
from pose.models.blocks import PoseNetwork
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass
from pose.models.networks import NetworkParams
from pose.models.simple_baseline import SimpleBaseline

HOURGLASS = {"kind": "hourglass", "stacks": 2, "modules": 1, "features": 8, "stem": [4, 8, 8]}
AE = {"kind": "ae", "stacks": 2, "features": 8, "increase": 4, "outputs": 7, "stem": [4, 8, 8]}
BASELINE = {"kind": "simple_baseline", "stem": 4, "widths": [4, 8, 8], "blocks": 1, "upsampled": 8}
KINDS = {
    "hourglass": HOURGLASS,
    "strided hourglass": HOURGLASS | {"stem": [4, 8]},
    "ae": AE,
    "simple baseline": BASELINE,
}
EVERY = pytest.mark.parametrize("kind", KINDS)
STACKED = pytest.mark.parametrize("kind", ["hourglass", "strided hourglass", "ae"])


class Given(Frozen):
    network: NetworkParams


def params(values: dict[str, Any]) -> Any:
    return parse(Given, {"network": values}, "params.yaml").network


def built(kind: str, outputs: int = 5, **changes: Any) -> PoseNetwork:
    torch.manual_seed(0)
    return params(KINDS[kind] | changes).build(outputs)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


# What all share


@EVERY
def test_a_network_maps_an_image_to_heatmaps_of_every_stack_at_a_quarter_of_its_size(kind):
    net = built(kind)
    assert STRIDE == 4
    stacks, channels = (1 if kind == "simple baseline" else 2), (7 if kind == "ae" else 5)
    assert net(torch.rand(2, 3, 64, 128)).shape == (2, stacks, channels, 16, 32)
    assert len(net.heads) == stacks


@EVERY
def test_every_weight_takes_part_in_the_last_stacks_output(kind):
    net = built(kind)
    net(torch.rand(2, 3, 64, 64))[:, -1].square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@EVERY
def test_the_first_channels_of_every_stack_can_begin_at_another_value(kind):
    net = built(kind)
    others = [head.bias[3:].clone() for head in net.heads]
    net.init_output_bias(3, -4.0)
    assert all(head.bias[:3].tolist() == [-4.0] * 3 for head in net.heads)
    assert all(torch.equal(head.bias[3:], bias) for head, bias in zip(net.heads, others, strict=True))


@EVERY
def test_bfloat16_and_channels_last_give_the_same_output_within_their_precision(kind):
    net, image = built(kind).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exact = net(image)
        net = net.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = net(image.contiguous(memory_format=torch.channels_last))
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


@EVERY
def test_a_network_is_described_in_a_line_and_rebuilt_from_its_parameters(kind):
    given = params(KINDS[kind])
    assert str(given).startswith(
        {"ae": "associative-embedding hourglass of 2, 8 features", "simple baseline": "simple baseline of 3"}
        .get(kind, "stacked hourglass of 2 × 1, 8 features")
    )  # fmt: skip
    assert params(given.model_dump()) == given


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (HOURGLASS | {"kind": "unet"}, r"network\.kind: found 'unet', expected one of 'hourglass', 'ae'"),
        (HOURGLASS | {"features": 6}, "network.features: found 6, .*multiple of 4"),
        (HOURGLASS | {"stem": [4]}, r"network.stem: found \[4\]"),
        (HOURGLASS | {"stacks": 0}, "network.stacks: found 0"),
        (AE | {"modules": 1}, "unknown key network.modules"),
        (AE | {"features": 10**6}, "network.features: found 1000000"),
        (BASELINE | {"widths": [8]}, r"network.widths: found \[8\]"),
    ],
)
def test_wrong_parameters_of_a_network_are_named(values, message):
    with user_error(f"^params.yaml: {message}"):
        params(values)


def test_too_few_outputs_are_refused():
    with user_error(r"^network.outputs: found 7, expected at least the 34 channels"):
        built("ae", outputs=34)


# Stacks


@STACKED
def test_a_stack_sees_the_output_of_the_one_before_it_and_not_of_later_ones(kind):
    net, image = built(kind).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = net(image)
        net.heads[1].bias += 1
        later = net(image)
        net.heads[0].bias += 1
        both = net(image)
    assert torch.equal(before[:, 0], later[:, 0])
    torch.testing.assert_close(before[:, 1] + 1, later[:, 1])
    assert not torch.allclose(later[:, 1], both[:, 1])


@STACKED
def test_one_stack_has_nothing_to_hand_on(kind):
    net = built(kind, stacks=1).eval()
    assert not [name for name, _ in net.named_parameters() if name.startswith("remap")]
    assert net(torch.rand(1, 3, 64, 64)).isfinite().all()


# Each one's own


def test_published_sizes_have_the_published_number_of_weights():
    with torch.device("meta"):
        hourglass = StackedHourglass(outputs=16, stacks=8, modules=1, features=256, stem=[64, 128, 128])
        ae = AEHourglass(outputs=68, stacks=4, features=256, increase=128, stem=[64, 128, 128])
        resnet34 = SimpleBaseline(outputs=16, stem=64, widths=[64, 128, 256, 512], blocks=2, upsampled=256)
    assert count(hourglass) == 25_434_112
    assert count(ae) == 138_893_840
    encoder = count(resnet34.stem) + count(resnet34.encoder)
    assert encoder == 11_176_512  # ResNet-18 without its classifier


def test_a_stem_of_two_numbers_is_two_strided_convolutions_and_a_residual():
    convolutions = [layer for layer in built("strided hourglass").stem if isinstance(layer, nn.Conv2d)]
    shapes = [(layer.in_channels, layer.out_channels, layer.stride) for layer in convolutions]
    assert shapes == [(3, 4, (2, 2)), (4, 8, (2, 2))]


def test_each_smaller_scale_of_the_ae_hourglass_has_that_many_channels_more():
    scale, widths = built("ae").hourglasses[0], []
    while not isinstance(scale, nn.Sequential):
        widths.append((scale.skip[0].out_channels, scale.before[0].out_channels, scale.after[0].out_channels))
        scale = scale.inner
    assert widths == [(8, 12, 8), (12, 16, 12), (16, 20, 16), (20, 24, 20)]
    assert scale[0].in_channels == scale[0].out_channels == 24


def test_the_ae_hourglass_treats_each_image_of_a_batch_alone():
    net, images = built("ae").train(), torch.rand(3, 3, 64, 64)  # batch normalisation would mix them
    torch.testing.assert_close(net(images)[:1], net(images[:1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("widths", [[4, 6], [4, 8, 12], [8, 8, 8, 8, 8]], ids=str)
def test_the_simple_baseline_comes_back_to_a_quarter_from_any_number_of_stages(widths):
    net = built("simple baseline", widths=widths, blocks=2)
    assert net(torch.rand(2, 3, 64, 128)).shape == (2, 1, 5, 16, 32)
    assert len(net.encoder) == len(widths) == len(net.decoder) + 1
    assert [len(stage) for stage in net.encoder] == [2] * len(widths)


def discriminator(seen: Tensor) -> Tensor:
    torch.manual_seed(0)
    net = Discriminator(outputs=5, stacks=2, modules=1, features=8, stem=[4, 8, 8])
    output = net(seen)
    output.square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]
    return output


def test_the_discriminator_reconstructs_heatmaps_at_their_size_from_them_and_the_image():
    seen = torch.rand(2, 3 + 5, 16, 32, requires_grad=True)
    assert discriminator(seen).shape == (2, 5, 16, 32)
    assert (seen.grad.abs().sum(dim=(0, 2, 3)) > 0).all()
