"""The tag-loss operator and its pure PyTorch formula, against the formula written out plainly in float64."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pose.ops import tag_loss as ops

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@pytest.fixture(scope="module", autouse=True)
def loaded(built: Path) -> None:
    """These tests need the libraries."""


# `emulated`, alone: the CUDA source in the place of the CPU's library (test_emulated.py).
DEVICES = os.environ.get("POSE_TEST_DEVICES", "cpu cuda").split()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cpu" if request.param == "emulated" else str(request.param)


def draw(
    *size: int, dtype: torch.dtype = torch.float64, device: str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random tags (a leaf that requires its gradient) and random cells, a quarter of them absent."""
    B, K, P, h, w = size
    rng = torch.Generator().manual_seed(seed)
    cell_BPK = torch.randint(h * w, (B, P, K), generator=rng)
    cell_BPK[torch.rand(B, P, K, generator=rng) < 0.25] = -1
    tag_BKhw = torch.randn(B, K, h, w, generator=rng, dtype=torch.float64).to(device, dtype)
    return tag_BKhw.requires_grad_(), cell_BPK.to(device)


def written_out(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
    """The formula of arXiv 1611.05424, a person and a pair at a time."""
    pull_B, push_B, nothing = [], [], tag_BKhw.sum() * 0
    for tag_Khw, cell_PK in zip(tag_BKhw, cell_BPK.tolist(), strict=True):
        read = [[tag_Khw[k].flatten()[cell] for k, cell in enumerate(K) if cell >= 0] for K in cell_PK]
        tags = [torch.stack(some) for some in read if some]
        means, N = [tag.mean() for tag in tags], len(tags)
        spreads = [((tag - mean) ** 2).mean() for tag, mean in zip(tags, means, strict=True)]
        pairs = [torch.exp(-((means[p] - means[q]) ** 2)) for p in range(N) for q in range(p + 1, N)]
        pull_B.append(sum(spreads, nothing) / max(N, 1))
        push_B.append(0.5 * sum(pairs, nothing) / max(len(pairs), 1))
    return torch.stack(pull_B), torch.stack(push_B)


def with_gradient(loss: Loss, tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pull, push, and the gradient of a sum with a weight for each image and loss; on the CPU, in float64."""
    pull_B, push_B = loss(tag_BKhw, cell_BPK)
    # The same numbers in float32 and float64.
    weight_2B = ((torch.arange(2 * len(pull_B)) - 3) / 4).to(pull_B).view(2, -1)
    [grad_BKhw] = torch.autograd.grad((pull_B, push_B), tag_BKhw, (weight_2B[0], weight_2B[1]))
    return pull_B.detach().cpu().double(), push_B.detach().cpu().double(), grad_BKhw.cpu().double()


def assert_equal_formula(loss: Loss, tag_BKhw: Tensor, cell_BPK: Tensor, rtol: float) -> None:
    found = with_gradient(loss, tag_BKhw, cell_BPK)
    exact = with_gradient(written_out, tag_BKhw.detach().cpu().double().requires_grad_(), cell_BPK.cpu())
    torch.testing.assert_close(found, exact, rtol=rtol, atol=1e-12)


SIZES = [
    (1, 1, 1, 1, 1),
    (2, 3, 4, 5, 7),
    (3, 17, 30, 16, 16),
    (1, 40, 3, 9, 9),
    (2, 2, 70, 4, 4),
    (4, 17, 1, 8, 8),
    (2, 3, 0, 4, 4),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_losses_and_gradients_equal_the_formula(size, device):
    for seed in range(3):
        double, single = (
            draw(*size, dtype=dtype, device=device, seed=seed) for dtype in (torch.float64, torch.float32)
        )
        assert_equal_formula(ops.tag_loss, *double, 1e-9)
        assert_equal_formula(ops.tag_loss, *single, 1e-5)
    assert_equal_formula(ops.tag_loss_formula, *double, 1e-9)


PRECISION = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_drawn_sizes_in_maps_that_lie_anyhow_equal_the_formula(seed, dtype, device):
    # The first: two parts of a gradient map on CUDA, where a block fills 8,192 cells. The second: a crowd.
    rng = torch.Generator().manual_seed(seed)
    drawn = [int(torch.randint(1, most, (), generator=rng)) for most in (4, 20, 80, 24, 24)]
    B, K, P, h, w = {0: [2, 3, 6, 128, 128], 1: [1, 2, 1000, 6, 9]}.get(seed, drawn)
    tag_BKhw, cell_BPK = draw(B, K, P, h, w, dtype=dtype, seed=seed)
    edges = torch.tensor([0, 8191, 8192, h * w - 1]).clamp(max=h * w - 1)
    edge_BPK = edges[torch.randint(4, cell_BPK.shape, generator=rng)]
    cell_BPK = edge_BPK.where(torch.rand(cell_BPK.shape, generator=rng) < 0.2, cell_BPK).to(device)
    output_BChw = torch.zeros(B, 2 * K, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last)
    output_BChw[:, K:] = tag_BKhw.detach()
    maps_BKhw = output_BChw.to(device)[:, K:].requires_grad_()
    loss_type = torch.promote_types(dtype, torch.float32)
    assert {loss_B.dtype for loss_B in ops.tag_loss(maps_BKhw, cell_BPK)} == {loss_type}
    found = with_gradient(ops.tag_loss, maps_BKhw, cell_BPK)
    double_BKhw = tag_BKhw.detach().double().requires_grad_()
    exact = with_gradient(ops.tag_loss_formula, double_BKhw, cell_BPK.cpu())
    torch.testing.assert_close(found[:2], exact[:2], rtol=min(PRECISION[dtype], 1e-5), atol=1e-12)
    torch.testing.assert_close(found[2], exact[2], rtol=PRECISION[dtype], atol=1e-12 + PRECISION[dtype] / 1e5)


def test_nearly_equal_tags_keep_a_precise_gradient(device):
    tag_BKhw, cell_BPK = draw(2, 17, 5, 8, 8, dtype=torch.float32, device=device)
    close_BKhw = (100 + 1e-3 * tag_BKhw.detach()).requires_grad_()
    assert_equal_formula(ops.tag_loss, close_BKhw, cell_BPK, 1e-5)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str)
def test_gradients_of_people_who_share_a_cell_add_up(device, dtype, rtol):
    tag_BKhw, cell_BPK = draw(2, 3, 12, 3, 3, dtype=dtype, device=device)
    cell_BPK[cell_BPK >= 0] = 4
    cell_BPK[1, ::2] = 2
    assert_equal_formula(ops.tag_loss, tag_BKhw, cell_BPK, rtol)


def test_absent_people_change_nothing_and_without_any_everything_is_zero(device):
    tag_BKhw, cell_BPK = draw(2, 4, 3, 6, 6, device=device)
    absent_BPK = torch.full_like(cell_BPK, -1)
    more_BPK = torch.cat([absent_BPK, cell_BPK[:, :2], absent_BPK, cell_BPK[:, 2:]], dim=1)
    more, fewer = (with_gradient(ops.tag_loss, tag_BKhw, some) for some in (more_BPK, cell_BPK))
    torch.testing.assert_close(more, fewer)
    for nobody_BPK in (absent_BPK, absent_BPK[:, :0]):
        for found in with_gradient(ops.tag_loss, tag_BKhw, nobody_BPK):
            assert torch.count_nonzero(found) == 0


def test_equal_tags_one_person_and_two_apart_have_the_known_losses(device):
    tag_BKhw, cell_BPK = draw(3, 5, 2, 6, 6, device=device)
    pull_B, push_B = ops.tag_loss(torch.full_like(tag_BKhw, 3.0), cell_BPK)
    assert pull_B.tolist() == [0, 0, 0]  # each person's tags agree
    assert push_B.tolist() == [0.5, 0.5, 0.5]  # and so do those of both people
    assert ops.tag_loss(tag_BKhw, cell_BPK[:, :1])[1].tolist() == [0, 0, 0]  # one person is pushed by nobody
    two_BKhw = torch.tensor([1.0, 3.0], device=device).reshape(1, 1, 1, 2)
    _, push_B = ops.tag_loss(two_BKhw, torch.tensor([[[0], [1]]], device=device))
    assert push_B.item() == pytest.approx(0.5 * math.exp(-4))  # falls with the square of the distance


def test_maps_may_lie_in_memory_in_any_way(device):
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device=device)
    expected = with_gradient(ops.tag_loss, tag_BKhw, cell_BPK)
    output_BChw = torch.zeros(2, 8, 5, 7, dtype=torch.float64, device=device)
    output_BChw = output_BChw.contiguous(memory_format=torch.channels_last)
    output_BChw[:, 3:6] = tag_BKhw.detach()
    sliced = output_BChw[:, 3:6]
    turned = tag_BKhw.detach().permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    cropped = torch.nn.functional.pad(tag_BKhw.detach(), (1, 2))[..., 1:-2]
    turned_cell_BPK = cell_BPK.transpose(0, 1).contiguous().transpose(0, 1)
    for maps_BKhw in (sliced, turned, cropped):
        found = with_gradient(ops.tag_loss, maps_BKhw.requires_grad_(), turned_cell_BPK)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_under_autocast_half_maps_are_trained(device):
    image_BChw, convolution = torch.randn(2, 3, 8, 8, device=device), torch.nn.Conv2d(3, 4, 1).to(device)
    _, cell_BPK = draw(2, 4, 3, 8, 8, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        tag_BKhw = convolution(image_BChw)
        pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    [grad] = torch.autograd.grad((pull_B + push_B).sum(), [convolution.weight])
    assert (tag_BKhw.dtype, pull_B.dtype, push_B.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert grad.abs().sum() > 0


def test_gradcheck_passes(device):
    tag_BKhw, cell_BPK = draw(2, 3, 4, 2, 3, device=device)  # 12 joints a map of 6 cells: some are shared
    assert torch.autograd.gradcheck(lambda maps: ops.tag_loss(maps, cell_BPK), (tag_BKhw,))
    assert torch.autograd.gradcheck(lambda maps: ops.tag_loss_formula(maps, cell_BPK), (tag_BKhw,))


def test_a_second_derivative_is_refused(device):
    tag_BKhw, cell_BPK = draw(1, 2, 3, 4, 4, device=device)
    pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    (grad_BKhw,) = torch.autograd.grad((pull_B + push_B).sum(), tag_BKhw, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.backward(grad_BKhw.sum())


@pytest.mark.parametrize("dtype", ops.MAP_TYPES, ids=str)
def test_opcheck_passes(dtype, device):
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, dtype=dtype, device=device)
    torch.library.opcheck(torch.ops.pose.tag_loss.default, (tag_BKhw, cell_BPK))
    returned = torch.ops.pose.tag_loss(tag_BKhw.detach(), cell_BPK)
    arguments = (*returned, tag_BKhw.detach(), cell_BPK)
    torch.library.opcheck(torch.ops.pose.tag_loss_backward.default, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.soak)])
def test_compiled_without_graph_breaks_it_gives_the_same(backend, device, tmp_path, monkeypatch):
    # A cache that is kept may hold what an older operator was called with.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def scaled(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
        pull_B, push_B = ops.tag_loss(4 * tag_BKhw, cell_BPK)
        return 0.25 * pull_B, push_B

    compiled = torch.compile(scaled, backend=backend, fullgraph=True)
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, dtype=torch.float32, device=device)
    found, expected = (with_gradient(loss, tag_BKhw, cell_BPK) for loss in (compiled, scaled))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


WRONG = [
    ("float32, float64", lambda tag, cell: (tag.to(torch.int32), cell)),
    ("and int64", lambda tag, cell: (tag, cell.to(torch.int32))),
    (r"the shapes \(B, K, h, w\)", lambda tag, cell: (tag[0], cell)),
    (r"and \(B, P, K\)", lambda tag, cell: (tag, cell[0])),
    (r"found .* \(2, 3, 5, 7\), .* \(2, 4, 2\)", lambda tag, cell: (tag, cell[:, :, :2])),
    (r"found .* \(2, 3, 5, 7\), .* \(1, 4, 3\)", lambda tag, cell: (tag, cell[:1])),
    ("one device", lambda tag, cell: (tag, cell.to("meta"))),
]


@pytest.mark.parametrize(("message", "change"), WRONG)
def test_wrong_shapes_types_and_devices_are_named(message, change):
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7)
    with pytest.raises(ValueError, match=message):
        ops.tag_loss(*change(tag_BKhw.detach(), cell_BPK))


@pytest.mark.skipif("cpu" not in DEVICES, reason="the CUDA source in the CPU's place answers NaN")
@pytest.mark.parametrize("cell", [35, -2, 2**62, -(2**63)])
def test_a_cell_outside_the_map_is_named(cell):
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7)
    cell_BPK[1, 2, 0] = cell
    expected = r"expected -1 \(absent\) or 0 to 34"
    with pytest.raises(RuntimeError, match=rf"cell_BPK\[1, 2, 0\] is {cell}, {expected}"):
        ops.tag_loss(tag_BKhw, cell_BPK)
    with pytest.raises(RuntimeError, match=expected):
        ops.tag_loss_formula(tag_BKhw, cell_BPK)


@pytest.mark.skipif(
    DEVICES != ["emulated"] and not torch.cuda.is_available(), reason="no CUDA device, nor an emulated one"
)
@pytest.mark.parametrize("cell", [35, -2, 2**62, -(2**63)])
def test_on_cuda_a_cell_outside_the_map_spoils_its_image_only(cell):
    device = "cpu" if DEVICES == ["emulated"] else "cuda"
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device=device)
    expected = with_gradient(ops.tag_loss, tag_BKhw, cell_BPK)
    cell_BPK[1, 2, 0] = cell
    for loss in (ops.tag_loss, ops.tag_loss_formula)[: 1 if device == "cpu" else 2]:
        found = with_gradient(loss, tag_BKhw, cell_BPK)
        assert found[0][1].isnan()
        assert found[1][1].isnan()
        assert torch.count_nonzero(found[2][1]) == 0
        torch.testing.assert_close([each[0] for each in found], [each[0] for each in expected])


def test_equal_inputs_give_bit_equal_results(device):
    tag_BKhw, cell_BPK = draw(4, 17, 30, 8, 8, dtype=torch.float32, device=device)  # shared cells in plenty
    first, *others = (with_gradient(ops.tag_loss, tag_BKhw, cell_BPK) for _ in range(6))
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)
