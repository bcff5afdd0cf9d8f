"""The tag-loss operator against its formula, written out plainly in float64; and how it is built and loaded."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from torch import Tensor

from pose.io.errors import UserError
from pose.ops import build as build_ext
from pose.ops import tag_loss as ops


@pytest.fixture(scope="session", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder made from these very sources.

    `build/` where it is up to date, else one made for these tests. Loaded.
    """
    wanted = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    folder = build_ext.build_folder()
    if not ops.load().issuperset(wanted):
        folder = tmp_path_factory.mktemp("build")
        said = build_ext.build(folder, wanted)
        if not ops.load(folder).issuperset(wanted):
            pytest.skip("; ".join(said.values()))
    return folder


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return str(request.param)


def draw(
    B: int,
    K: int,
    P: int,
    h: int,
    w: int,
    *,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Random tags, as a leaf that wants its gradient, and random cells, a quarter of them absent."""
    rng = torch.Generator().manual_seed(seed)
    cell_BPK = torch.randint(h * w, (B, P, K), generator=rng)
    cell_BPK[torch.rand(B, P, K, generator=rng) < 0.25] = -1
    return torch.randn(B, K, h, w, generator=rng, dtype=torch.float64).to(
        device, dtype
    ).requires_grad_(), cell_BPK.to(device)


def written_out(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
    """The formula of arXiv 1611.05424, a person and a pair at a time."""
    pull_B, push_B = [], []
    for tag_Khw, cell_PK in zip(tag_BKhw, cell_BPK.tolist(), strict=True):
        nothing = tag_BKhw.sum() * 0
        of_person = [
            [tag_Khw[k].flatten()[cell] for k, cell in enumerate(cell_K) if cell >= 0] for cell_K in cell_PK
        ]
        tags = [torch.stack(some) for some in of_person if some]
        means, N = [tag.mean() for tag in tags], len(tags)
        pull_B.append(
            sum((((tag - mean) ** 2).mean() for tag, mean in zip(tags, means, strict=True)), nothing)
            / max(N, 1)
        )
        pairs = [torch.exp(-((means[p] - means[q]) ** 2)) for p in range(N) for q in range(p + 1, N)]
        push_B.append(0.5 * sum(pairs, nothing) / max(len(pairs), 1))
    return torch.stack(pull_B), torch.stack(push_B)


def with_gradient(loss: object, tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pull, push, and the gradient of a sum in which every image and both terms have weights of their own; on the CPU, in float64."""
    pull_B, push_B = loss(tag_BKhw, cell_BPK)  # type: ignore[operator]
    weight_2B = (
        ((torch.arange(2 * len(pull_B)) - 3) / 4).to(pull_B).view(2, -1)
    )  # the same numbers in float32 and float64
    (gradient_BKhw,) = torch.autograd.grad((pull_B, push_B), tag_BKhw, (weight_2B[0], weight_2B[1]))
    return pull_B.detach().cpu().double(), push_B.detach().cpu().double(), gradient_BKhw.cpu().double()


def assert_equal_formula(loss: object, tag_BKhw: Tensor, cell_BPK: Tensor, rtol: float) -> None:
    found = with_gradient(loss, tag_BKhw, cell_BPK)
    expected = with_gradient(written_out, tag_BKhw.detach().cpu().double().requires_grad_(), cell_BPK.cpu())
    for what, expectation in zip(found, expected, strict=True):
        torch.testing.assert_close(what, expectation, rtol=rtol, atol=1e-12)  # cell by cell


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
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["float32", "float64"]
)
def test_losses_and_gradients_equal_the_formula(
    size: tuple[int, ...], dtype: torch.dtype, rtol: float, device: str
) -> None:
    for seed in range(3):
        tag_BKhw, cell_BPK = draw(*size, dtype=dtype, device=device, seed=seed)
        assert_equal_formula(ops.tag_loss, tag_BKhw, cell_BPK, rtol)


def test_the_plain_formula_is_the_same_function(device: str) -> None:
    for size in SIZES:
        tag_BKhw, cell_BPK = draw(*size, dtype=torch.float64, device=device)
        assert_equal_formula(ops.tag_loss_formula, tag_BKhw, cell_BPK, 1e-9)


def test_nearly_equal_tags_keep_a_precise_gradient(device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 17, 5, 8, 8, dtype=torch.float32, device=device)
    close_BKhw = (100 + 1e-3 * tag_BKhw.detach()).requires_grad_()
    assert_equal_formula(ops.tag_loss, close_BKhw, cell_BPK, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_people_who_share_a_cell_add_up(device: str, dtype: torch.dtype) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 12, 3, 3, dtype=dtype, device=device)
    cell_BPK[cell_BPK >= 0] = 4
    cell_BPK[1, ::2] = 2
    assert_equal_formula(ops.tag_loss, tag_BKhw, cell_BPK, 1e-5 if dtype == torch.float32 else 1e-2)


def test_absent_people_change_nothing(device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 4, 3, 6, 6, device=device)
    absent_BPK = torch.full_like(cell_BPK, -1)
    more_BPK = torch.cat([absent_BPK, cell_BPK[:, :2], absent_BPK, cell_BPK[:, 2:]], dim=1)
    for ours, theirs in zip(
        with_gradient(ops.tag_loss, tag_BKhw, more_BPK),
        with_gradient(ops.tag_loss, tag_BKhw, cell_BPK),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_without_people_losses_and_gradients_are_zero(device: str) -> None:
    for people in (0, 3):
        tag_BKhw, _ = draw(2, 4, 1, 6, 6, device=device)
        for found in with_gradient(ops.tag_loss, tag_BKhw, torch.full((2, people, 4), -1, device=device)):
            assert torch.count_nonzero(found) == 0


def test_a_single_person_is_pushed_from_nobody(device: str) -> None:
    tag_BKhw, cell_BPK = draw(3, 5, 1, 6, 6, device=device)
    _, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    assert push_B.tolist() == [0, 0, 0]


def test_pull_is_zero_when_a_persons_tags_agree(device: str) -> None:
    _, cell_BPK = draw(1, 5, 2, 6, 6, device=device)
    pull_B, push_B = ops.tag_loss(torch.full((1, 5, 6, 6), 3.0, device=device), cell_BPK)
    assert pull_B.item() == 0
    assert push_B.item() == 0.5  # all tags equal: as near as two people can be


def test_push_falls_with_the_square_of_the_distance_between_means(device: str) -> None:
    tag_BKhw = torch.tensor([1.0, 3.0], device=device).reshape(1, 1, 1, 2)
    _, push_B = ops.tag_loss(tag_BKhw, torch.tensor([[[0], [1]]], device=device))
    assert push_B.item() == pytest.approx(0.5 * math.exp(-4))


def test_maps_may_lie_in_memory_in_any_way(device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device=device)
    expected = with_gradient(ops.tag_loss, tag_BKhw, cell_BPK)
    output_BChw = torch.zeros(2, 8, 5, 7, dtype=torch.float64, device=device).contiguous(
        memory_format=torch.channels_last
    )
    output_BChw[:, 3:6] = tag_BKhw.detach()
    sliced, turned = (
        output_BChw[:, 3:6],
        tag_BKhw.detach().permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
    )
    cropped = torch.nn.functional.pad(tag_BKhw.detach(), (1, 2))[..., 1:-2]
    for maps_BKhw in (sliced, turned, cropped):
        found = with_gradient(
            ops.tag_loss, maps_BKhw.requires_grad_(), cell_BPK.transpose(0, 1).contiguous().transpose(0, 1)
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_maps_lose_nothing_but_the_last_rounding(dtype: torch.dtype, device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 17, 5, 8, 8, dtype=dtype, device=device)
    pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    assert pull_B.dtype == push_B.dtype == torch.float32
    found, exact = (
        with_gradient(ops.tag_loss, tag_BKhw, cell_BPK),
        with_gradient(ops.tag_loss, tag_BKhw.detach().double().requires_grad_(), cell_BPK),
    )
    torch.testing.assert_close(found[:2], exact[:2], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[2], exact[2], rtol=1e-2, atol=1e-6)


def test_under_autocast_half_maps_give_float32_losses_and_half_gradients(device: str) -> None:
    image_BChw = torch.randn(2, 3, 8, 8, device=device)
    convolution = torch.nn.Conv2d(3, 4, 1).to(device)
    _, cell_BPK = draw(2, 4, 3, 8, 8, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        tag_BKhw = convolution(image_BChw)
        tag_BKhw.retain_grad()
        pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    torch.autograd.backward((pull_B + push_B).sum())
    assert tag_BKhw.dtype == torch.bfloat16
    assert pull_B.dtype == push_B.dtype == torch.float32
    assert tag_BKhw.grad is not None
    assert tag_BKhw.grad.dtype == torch.bfloat16
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.abs().sum() > 0


def test_gradcheck_passes(device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 2, 3, device=device)  # 12 joints a map of 6 cells: some are shared
    assert torch.autograd.gradcheck(lambda maps: ops.tag_loss(maps, cell_BPK), (tag_BKhw,))
    assert torch.autograd.gradcheck(lambda maps: ops.tag_loss_formula(maps, cell_BPK), (tag_BKhw,))


def test_a_second_derivative_is_refused(device: str) -> None:
    tag_BKhw, cell_BPK = draw(1, 2, 3, 4, 4, device=device)
    pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    (gradient_BKhw,) = torch.autograd.grad((pull_B + push_B).sum(), tag_BKhw, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.backward(gradient_BKhw.sum())


@pytest.mark.parametrize("dtype", ops.MAP_TYPES, ids=str)
def test_opcheck_passes(dtype: torch.dtype, device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, dtype=dtype, device=device)
    torch.library.opcheck(torch.ops.pose.tag_loss.default, (tag_BKhw, cell_BPK))
    pull_B, push_B, pull_slope_BPK, push_slope_BP = torch.ops.pose.tag_loss(tag_BKhw.detach(), cell_BPK)
    torch.library.opcheck(
        torch.ops.pose.tag_loss_backward.default,
        (pull_B, push_B, pull_slope_BPK, push_slope_BP, tag_BKhw.detach(), cell_BPK),
    )


@pytest.mark.slow
def test_compiled_without_graph_breaks_it_gives_the_same(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path)
    )  # a kept one may hold what an older operator was called with

    def scaled(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
        pull_B, push_B = ops.tag_loss(4 * tag_BKhw, cell_BPK)
        return 0.25 * pull_B, push_B

    compiled = torch.compile(scaled, fullgraph=True)
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, dtype=torch.float32, device=device)
    for ours, theirs in zip(
        with_gradient(compiled, tag_BKhw, cell_BPK), with_gradient(scaled, tag_BKhw, cell_BPK), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


WRONG = {
    "expected float32": lambda tag, cell: (tag.to(torch.int32), cell),
    "expected int64": lambda tag, cell: (tag, cell.to(torch.int32)),
    r"expected \(B, K, h, w\)": lambda tag, cell: (tag[0], cell),
    r"\(B, P, K\)": lambda tag, cell: (tag, cell[0]),
    "B and K must agree": lambda tag, cell: (tag, cell[:, :, :2]),
    r"\(B, P, K\) = \(1, 4, 3\)": lambda tag, cell: (tag, cell[:1]),
    "without a cell": lambda tag, cell: (tag[..., :0], cell),
    "expected one device": lambda tag, cell: (tag, cell.to("meta")),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_shapes_types_and_devices_are_named(message: str, device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device=device)
    for loss in (ops.tag_loss, ops.tag_loss_formula):
        with pytest.raises((ValueError, TypeError), match=message):
            loss(*WRONG[message](tag_BKhw.detach(), cell_BPK))


@pytest.mark.parametrize(
    "message", [message for message in WRONG if "device" not in message and "without" not in message]
)
def test_called_past_its_face_the_operator_still_refuses(message: str, device: str) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device=device)
    with pytest.raises(RuntimeError, match=r"tag_loss: .*(expected|for)"):
        torch.ops.pose.tag_loss(*WRONG[message](tag_BKhw.detach(), cell_BPK))


@pytest.mark.parametrize("cell", [35, -2, 2**62, -(2**63)])
def test_a_cell_outside_the_map_is_named(cell: int) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7)
    cell_BPK[1, 2, 0] = cell
    with pytest.raises(
        RuntimeError, match=rf"cell_BPK\[1, 2, 0\] is {cell}, expected -1 \(absent\) or 0 to 34"
    ):
        ops.tag_loss(tag_BKhw, cell_BPK)
    with pytest.raises(RuntimeError, match=r"expected -1 \(absent\) or 0 to 34"):
        ops.tag_loss_formula(tag_BKhw, cell_BPK)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cell", [35, -2, 2**62, -(2**63)])
def test_on_cuda_a_cell_outside_the_map_spoils_its_image_only(cell: int) -> None:
    tag_BKhw, cell_BPK = draw(2, 3, 4, 5, 7, device="cuda")
    expected = with_gradient(ops.tag_loss, tag_BKhw, cell_BPK)
    cell_BPK[1, 2, 0] = cell
    for loss in (ops.tag_loss, ops.tag_loss_formula):
        pull_B, push_B, gradient_BKhw = with_gradient(loss, tag_BKhw, cell_BPK)
        assert pull_B[1].isnan()
        assert push_B[1].isnan()
        assert torch.count_nonzero(gradient_BKhw[1]) == 0
        for ours, theirs in zip(
            (pull_B[0], push_B[0], gradient_BKhw[0]), (each[0] for each in expected), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_equal_inputs_give_bit_equal_results(device: str) -> None:
    tag_BKhw, cell_BPK = draw(4, 17, 30, 8, 8, dtype=torch.float32, device=device)  # shared cells in plenty
    first = with_gradient(ops.tag_loss, tag_BKhw, cell_BPK)
    for _ in range(5):
        assert all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(with_gradient(ops.tag_loss, tag_BKhw, cell_BPK), first, strict=True)
        )


# Building and loading


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


USE = """
import torch
from pose.ops import tag_loss as ops
for _ in range(2):
    pull_B, push_B = ops.tag_loss(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), torch.tensor([[[0], [1]]]))
assert abs(push_B.item() - 0.5 * 2.718281828 ** -4) < 1e-6
"""


@pytest.mark.parametrize("fault", ["not there", "does not load", "other sources"])
def test_without_a_fitting_library_the_formula_serves_and_says_so_in_one_line(
    fault: str, tmp_path: Path
) -> None:
    if fault != "not there":
        build_ext.library_path(tmp_path, "cpu").parent.mkdir()
        build_ext.library_path(tmp_path, "cpu").write_bytes(b"no library")
        sources = build_ext.sources_digest() if fault == "does not load" else "others"
        (tmp_path / "operator.json").write_text(json.dumps({"sources": sources}))
    done = python(USE, POSE_BUILD=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("pose.ops.tag_loss: the plain torch formula serves on cpu: ")
    assert fault in line


def test_cuda_code_compiles_links_loads_and_registers_on_any_machine(built: Path, tmp_path: Path) -> None:
    folder = built
    if not build_ext.library_path(folder, "cuda").is_file():
        folder = tmp_path
        said = build_ext.build(folder, ("cuda",), cuda_targets=("arch=compute_90,code=sm_90",))
        if not build_ext.library_path(folder, "cuda").is_file():
            pytest.skip(said["cuda"])
    paths = [str(build_ext.library_path(built, "cpu")), str(build_ext.library_path(folder, "cuda"))]
    done = python(
        f"import torch\nfor path in {paths}: torch.ops.load_library(path)\n"
        "for name in ('tag_loss', 'tag_loss_backward'): print(torch._C._dispatch_dump('pose::' + name))"
    )
    assert done.returncode == 0, done.stderr
    registered = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert registered.count("CPU") == registered.count("CUDA") == 2


def test_without_compilers_the_build_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("NVCC", "")
    said = build_ext.build(tmp_path)
    assert (
        said["cpu"]
        == "cpu operator: not built (no C++ compiler); on this kind of device the plain torch formula serves"
    )
    assert "no nvcc" in said["cuda"]
    assert build_ext.built_digest(tmp_path) == build_ext.sources_digest()
    assert list((tmp_path / "operator").iterdir()) == []


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_a_compiler_that_fails_is_named_in_one_line_and_leaves_no_library(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(UserError, match=f"{compiler}.*(could not build|cannot be run)") as caught:
        build_ext.build(tmp_path, ("cpu",))
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_toolchain_tells_what_would_need_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_ext.toolchain()
    assert before == build_ext.toolchain()
    monkeypatch.setenv("NVCC", "" if before["nvcc"] != "none" else sys.executable)
    after = build_ext.toolchain()
    assert {name for name in before if before[name] != after[name]} == {"nvcc"}
