"""The tag-loss operator on a GPU.

Is it the CPU's, does it repeat itself bit by bit, does the host never wait, and how long does it take.

    python benchmarks/gpu_tag_loss.py check [--sizes few]   stops at the first difference
    python benchmarks/gpu_tag_loss.py time [--to FOLDER]    writes FOLDER/gpu_tag_loss.{json,md}

few: for compute-sanitizer, which is slow. FOLDER: benchmarks/results by default.

`benchmarks/gpu.sh` runs all of it. Legend: B images, K joints, P people, h w map cells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, shown, spread
from tag_loss import PEOPLE, B, K, both_ways, draw, h, w
from torch import Tensor

from pose.ops import tag_loss as ops

FEW: list[tuple[int, ...]] = [(2, 17, 5, 16, 16), (1, 3, 40, 5, 7), (2, 2, 0, 4, 4)]
MANY = [
    *FEW,
    (1, 1, 1, 1, 1),
    (16, 17, 30, 128, 128),
    (4, 40, 70, 33, 31),
    (3, 5, 300, 64, 100),
    (2, 2, 1, 300, 300),
]
REPEATS = 100
ROUNDS = 200


def case(size: tuple[int, ...], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, cells of which many are shared, and weights of the losses; on the CPU."""
    images, joints, people, height, width = size
    rng = torch.Generator().manual_seed(seed)
    cell_BPK = torch.randint(height * width, (images, people, joints), generator=rng)
    cell_BPK[torch.rand(cell_BPK.shape, generator=rng) < 0.25] = -1
    cell_BPK[torch.rand(cell_BPK.shape, generator=rng) < 0.1] = 0
    tag_BKhw = torch.randn(images, joints, height, width, generator=rng, dtype=torch.float64).to(dtype)
    return tag_BKhw, cell_BPK, torch.randn(2, images, generator=rng)


def results(tag_BKhw: Tensor, cell_BPK: Tensor, weight_2B: Tensor) -> list[Tensor]:
    """Pull, push and the gradient of their weighted sum."""
    tag_BKhw = tag_BKhw.detach().requires_grad_()
    pull_B, push_B = ops.tag_loss(tag_BKhw, cell_BPK)
    (gradient_BKhw,) = torch.autograd.grad((pull_B, push_B), tag_BKhw, tuple(weight_2B.to(pull_B)))
    return [pull_B.detach(), push_B.detach(), gradient_BKhw]


def check(sizes: list[tuple[int, ...]]) -> None:
    for size in sizes:
        for dtype in ops.MAP_TYPES:
            on_cpu = case(size, dtype, seed=sum(size))
            on_gpu = [tensor.cuda() for tensor in on_cpu]
            first = results(*on_gpu)
            for on_cuda, expected in zip(first, results(*on_cpu), strict=True):
                # Sums in float64 on both sides: what differs is their order, and so at most the last
                # rounding.
                torch.testing.assert_close(
                    on_cuda.cpu(), expected, rtol=2 * torch.finfo(expected.dtype).eps + 1e-12, atol=1e-12
                )
            for _ in range(REPEATS if sizes is MANY else 2):
                assert all(
                    torch.equal(again, once) for again, once in zip(results(*on_gpu), first, strict=True)
                ), f"{size} {dtype}: runs differ"
    print(f"equal to the CPU operator, and from run to run: {len(sizes)} sizes, {len(ops.MAP_TYPES)} types")

    tag_BKhw, cell_BPK, weight_2B = (tensor.cuda() for tensor in case(FEW[0], torch.float32, seed=0))
    cell_BPK[1, 2, 3], cell_BPK[1, 3, 4] = 2**62, -2
    pull_B, push_B, gradient_BKhw = results(tag_BKhw, cell_BPK, weight_2B)
    assert pull_B.isnan().tolist() == push_B.isnan().tolist() == [False, True], (
        "a cell outside the map should spoil its own image"
    )
    assert not gradient_BKhw[1].any(), "the image with a cell outside the map should get no gradient"
    print("cells outside the map: NaN for their image, nothing else touched")


def check_launches() -> None:
    """One kernel forward, one backward, no waiting: both can be captured into a CUDA graph."""
    tag_BKhw, cell_BPK, weight_2B = (tensor.cuda() for tensor in case(FEW[0], torch.float32, seed=0))
    forward = torch.ops.pose.tag_loss.default
    backward = torch.ops.pose.tag_loss_backward.default
    slopes = forward(tag_BKhw, cell_BPK)[2:]
    for name, call in (
        ("forward", lambda: forward(tag_BKhw, cell_BPK)),
        ("backward", lambda: backward(weight_2B[0], weight_2B[1], *slopes, tag_BKhw, cell_BPK)),
    ):
        call()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            torch.cuda.set_sync_debug_mode("error")
            call()
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
        kernels = [event.name for event in profile.events() if event.device_type.name == "CUDA"]
        assert len(kernels) == 1, f"{name}: expected one launch, found {kernels}"
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = call()
        graph.replay()
        torch.cuda.synchronize()
        expected = call()
        for replayed, called in zip(
            *((one,) if isinstance(one, Tensor) else one for one in (captured, expected)), strict=True
        ):
            assert torch.equal(replayed, called), f"{name}: replayed from a CUDA graph it differs"
    print("one launch each way, no synchronisation, replays from a CUDA graph")


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call, by the device's own clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def take_times(folder: Path) -> None:
    one_B = torch.ones(B, device="cuda")
    rows: list[dict[str, Any]] = []
    for people in PEOPLE:
        tag_BKhw, cell_BPK = draw(people, device="cuda")
        plain_BKhw = tag_BKhw.detach()
        slopes = torch.ops.pose.tag_loss(plain_BKhw, cell_BPK)[2:]
        variants: dict[str, Callable[[], object]] = {
            "zeros": partial(torch.zeros_like, plain_BKhw),
            "forward kernel": partial(torch.ops.pose.tag_loss, plain_BKhw, cell_BPK),
            "backward kernel": partial(
                torch.ops.pose.tag_loss_backward, one_B, one_B, *slopes, plain_BKhw, cell_BPK
            ),
            "operator": partial(both_ways, ops.tag_loss, tag_BKhw, cell_BPK),
            "formula": partial(both_ways, ops.tag_loss_formula, tag_BKhw, cell_BPK),
        }
        times: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(ROUNDS + 20):
            for name, work in variants.items():
                torch.cuda.synchronize()
                took = milliseconds(work)
                if number >= 20:  # clocks and allocator have settled
                    times[name].append(took)
        rows.append(
            {
                "people": people,
                "milliseconds": {name: spread(torch.tensor(took).numpy()) for name, took in times.items()},
            }
        )
    facts = machine() | {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda or ""}
    names = list(rows[0]["milliseconds"])
    text = f"""# Tag loss on a GPU

{B} images, {K} joints, maps of {h} x {w}, float32; milliseconds by the device's clock, {ROUNDS}
rounds in turns: median (range of the middle half). `operator` and `formula` are forward and backward through
autograd, so mostly the time that Python needs to launch them.

| people | {" | ".join(names)} |
|---|{"---|" * len(names)}
"""
    for row in rows:
        text += (
            f"| {row['people']} | "
            + " | ".join(shown(row["milliseconds"][name], digits=4) for name in names)
            + " |\n"
        )
    text += "\n" + ", ".join(f"{key} {value}" for key, value in facts.items()) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu_tag_loss.json").write_text(
        json.dumps({"rounds": ROUNDS, "rows": rows, "machine": facts}, indent=2) + "\n", encoding="utf-8"
    )
    (folder / "gpu_tag_loss.md").write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["check", "time"])
    parser.add_argument("--sizes", choices=["few", "many"], default="many")
    parser.add_argument("--to", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device")
    if "cuda" not in ops.load():
        raise SystemExit("error: the CUDA operator is not built, run `python -m stages.build_ext`")
    if arguments.what == "time":
        take_times(arguments.to)
        return
    check(FEW if arguments.sizes == "few" else MANY)
    if arguments.sizes == "many":
        check_launches()


if __name__ == "__main__":
    main()
