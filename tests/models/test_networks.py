"""The networks: the associative embedding's and the discriminator; the single-person one is in test_task.py as well."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pose.models.ae_hourglass import AEHourglass
from pose.models.blocks import Stacked
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def ae(stacks: int = 2) -> AEHourglass:
    torch.manual_seed(0)
    return AEHourglass(outputs=6, stacks=stacks, features=8, increase=4, stem=[4, 8, 8])


def discriminator(stacks: int = 2) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(joints=5, stacks=stacks, modules=1, features=8, stem=[4, 8, 8])


def hourglass(stacks: int = 2) -> StackedHourglass:
    torch.manual_seed(0)
    return StackedHourglass(joints=5, stacks=stacks, modules=1, features=8, stem=[4, 8, 8])


def strided(stacks: int = 2) -> StackedHourglass:
    torch.manual_seed(0)
    return StackedHourglass(joints=5, stacks=stacks, modules=1, features=8, stem=[4, 8])


def last_stack(output: Tensor) -> Tensor:
    return output if output.ndim == 4 else output[:, -1]


NETWORKS = [(hourglass, 3), (strided, 3), (ae, 3), (discriminator, 8)]


def test_the_papers_ae_hourglass_has_139_million_weights():
    with torch.device("meta"):
        net = AEHourglass(outputs=68, stacks=4, features=256, increase=128, stem=[64, 128, 128])
    assert count(net) == 138_893_840


def test_a_stem_of_two_numbers_is_two_strided_convolutions_and_a_residual():
    stem = strided().stem
    assert [
        (layer.in_channels, layer.out_channels, layer.stride)
        for layer in stem
        if isinstance(layer, nn.Conv2d)
    ] == [
        (3, 4, (2, 2)),
        (4, 8, (2, 2)),
    ]
    assert strided(stacks=3)(torch.rand(2, 3, 64, 128)).shape == (2, 3, 5, 16, 32)


def test_every_stack_of_the_ae_hourglass_answers_at_a_quarter_of_the_input():
    assert ae(stacks=3)(torch.rand(2, 3, 64, 128)).shape == (2, 3, 6, 16, 32)


def test_each_smaller_scale_of_the_ae_hourglass_has_that_many_channels_more():
    scale, widths = ae().hourglasses[0], []
    while not isinstance(scale, nn.Sequential):
        widths.append((scale.skip[0].out_channels, scale.before[0].out_channels, scale.after[0].out_channels))
        scale = scale.inner
    assert widths == [(8, 12, 8), (12, 16, 12), (16, 20, 16), (20, 24, 20)]
    assert scale[0].in_channels == scale[0].out_channels == 24


def test_what_the_ae_hourglass_says_of_an_image_does_not_depend_on_its_neighbours():
    net, images = ae().train(), torch.rand(3, 3, 64, 64)
    assert torch.allclose(
        net(images)[:1], net(images[:1]), atol=1e-6
    )  # a normalisation over the batch would mix them


def test_the_discriminator_repaints_heatmaps_at_their_own_size():
    assert discriminator()(torch.rand(2, 3 + 5, 16, 32)).shape == (2, 5, 16, 32)


def test_the_discriminator_looks_at_the_image_and_at_every_heatmap():
    seen = torch.rand(2, 3 + 5, 16, 16, requires_grad=True)
    discriminator()(seen).square().sum().backward()
    assert (seen.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize(("build", "channels"), NETWORKS)
def test_every_weight_takes_part_in_the_last_stacks_answer(build, channels: int):
    net = build(stacks=2)
    last_stack(net(torch.rand(2, channels, 64, 64))).square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(("build", "channels"), NETWORKS)
def test_a_stack_sees_what_the_one_before_it_answered(build, channels: int):
    net, image = build(stacks=2).eval(), torch.rand(1, channels, 64, 64)
    with torch.no_grad():
        before = last_stack(net(image))
        net.heads[0].bias += 1
        after = last_stack(net(image))
    assert not torch.allclose(before, after)


def test_a_stack_does_not_see_what_later_ones_answer():
    net, image = hourglass(stacks=2).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = net(image)
        net.heads[1].bias += 1
        after = net(image)
    assert torch.equal(before[:, 0], after[:, 0])
    assert torch.allclose(before[:, 1] + 1, after[:, 1], atol=1e-6)


@pytest.mark.parametrize(("build", "channels"), NETWORKS)
def test_one_stack_has_nothing_to_hand_on(build, channels: int):
    net: Stacked = build(stacks=1)
    assert not [name for name, _ in net.named_parameters() if name.startswith("remap")]
    assert last_stack(net.eval()(torch.rand(1, channels, 64, 64))).isfinite().all()


@pytest.mark.parametrize(("build", "channels"), NETWORKS)
def test_bfloat16_and_channels_last_give_the_same_answer_within_their_precision(build, channels: int):
    net, image = build().eval(), torch.rand(1, channels, 64, 64)
    with torch.no_grad():
        plain = net(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = net.to(memory_format=torch.channels_last)(
                image.contiguous(memory_format=torch.channels_last)
            )
    assert (rough.float() - plain).abs().max() < 0.05 * plain.abs().max()
