"""The tag loss forward and backward, beside zero-filling one gradient of the maps' size.

The least that a backward pass can cost.

    python benchmarks/tag_loss.py        writes benchmarks/results/tag_loss.{json,md}

Whether such a gradient lies in memory that the process holds, or in pages fresh from the system (whose first
touch costs far more than the zeros), the allocator decides by what was freed before. Here it is told: both
are measured, apart. Legend: B images, K joints, P people, h w map cells.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import in_turns, shown, spread, write
from torch import Tensor

from pose.ops import tag_loss as ops

B, K, h, w = 16, 17, 128, 128
PEOPLE = (3, 30)
MISSING = 0.2  # share of joints that are absent
ROUNDS = 300


def both_ways(loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], tag: Tensor, cell: Tensor) -> object:
    """Forward and backward."""
    one_B = torch.ones(len(tag), device=tag.device)
    return torch.autograd.grad(loss(tag, cell), tag, (one_B, one_B))


def draw(people: int, *, device: str = "cpu", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random maps that want their gradient, and random cells."""
    rng = torch.Generator().manual_seed(seed)
    cell_BPK = torch.randint(h * w, (B, people, K), generator=rng)
    cell_BPK[torch.rand(cell_BPK.shape, generator=rng) < MISSING] = -1
    return torch.randn(B, K, h, w, generator=rng).to(device).requires_grad_(), cell_BPK.to(device)


def keep_memory(keep: bool) -> None:
    """Tell glibc to hold freed memory of this size, or to map it again each time.

    M_MMAP_THRESHOLD is -3, M_TRIM_THRESHOLD -1.
    """
    glibc = ctypes.CDLL(None)
    glibc.mallopt(-3, 32 << 20 if keep else 128 << 10)
    glibc.mallopt(-1, 1 << 30 if keep else 128 << 10)
    glibc.malloc_trim(0)


def main() -> None:
    if "cpu" not in ops.load():
        raise SystemExit("error: the operator is not built, run `dvc repro build_ext`")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for memory in ("fresh", "held"):
        for people in PEOPLE:
            tag_BKhw, cell_BPK = draw(people)
            plain_BKhw = tag_BKhw.detach()
            keep_memory(memory == "held")
            variants: dict[str, Callable[[], object]] = {
                "zeros": partial(torch.zeros_like, plain_BKhw),
                "operator": partial(both_ways, ops.tag_loss, tag_BKhw, cell_BPK),
                "formula": partial(both_ways, ops.tag_loss_formula, tag_BKhw, cell_BPK),
            }
            seconds = in_turns(variants, ROUNDS)
            row: dict[str, Any] = {
                "memory": memory,
                "people": people,
                "milliseconds": {name: 1e3 * spread(values)["median"] for name, values in seconds.items()},
            }
            rows.append(
                row | {name: spread(seconds[name] / seconds["zeros"]) for name in ("operator", "formula")}
            )
    text = f"""# Tag loss, forward and backward

{B} images, {K} joints, maps of {h} x {w}, float32, {MISSING:.0%} of the joints absent; one thread, CPU time,
{ROUNDS} rounds in turns: median of the ratio within a round (range of the middle half of the rounds). Memory:
held by the process, or fresh from the system.

| people | memory | zero-filling one gradient (limit) | operator, times it | PyTorch, times it |
|---|---|---|---|---|
"""
    for row in rows:
        limit = f"{row['milliseconds']['zeros']:.2f} ms"
        text += f"| {row['people']} | {row['memory']} | {limit} | {shown(row['operator'])} |"
        text += f" {shown(row['formula'])} |\n"
    write("tag_loss", {"rounds": ROUNDS, "threads": 1, "rows": rows}, text)


if __name__ == "__main__":
    main()
