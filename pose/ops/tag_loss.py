"""The tag loss of associative embedding as an operator: compiled (`csrc/`), or else in pure PyTorch.

B images, K joints, P people, h w map cells. The libraries in `build/` (or the folder that POSE_BUILD names)
are loaded when this module is imported, since `torch.compile(fullgraph=True)` could not load them later. A
library that is missing, broken, built from other sources or not for this GPU is not used; the first call
logs why.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pose.ops import build as build_ext

log = logging.getLogger(__name__)

MAP_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# Device types with a loaded kernel, and for the others the reason. A library cannot be unloaded.
_loaded: set[str] = set()
_missing: dict[str, str] = {}
_tried: set[str] = set()


def tag_loss(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
    """Pull and push losses of each image (arXiv 1611.05424): `(pull_B, push_B)`.

    tag_BKhw: a tag map for each joint, float32, float64, float16 or bfloat16, any strides. cell_BPK: int64,
    the flattened cell (y * w + x) of joint k of person p, -1 where it is absent. Both on one device.

    With t_pk the tags of these cells, m_p the mean of person p's and N the people with at least one joint:
    pull = 1/N sum_p mean_k (t_pk - m_p)^2, push = 1/2 sum_{p<q} exp(-(m_p - m_q)^2) / (N (N - 1) / 2); push
    is 0 for N < 2, both for N = 0. Differentiable once, through the means too; gradients of people who share
    a cell add up. Sums are in float64, the losses in float32 (float64 for float64 maps). Equal inputs give
    bit-equal results.

    ValueError for a wrong shape, device or type. A cell outside the map is a RuntimeError on the
    CPU. On CUDA, where checking would make the host wait, both losses of that image are NaN and its tags get
    no gradient; nothing outside the map is read or written.
    """
    _check(tag_BKhw, cell_BPK)
    device = tag_BKhw.device.type
    if not torch.compiler.is_compiling():
        _try(device)
    if device in _loaded:
        pull_B, push_B, _, _ = torch.ops.pose.tag_loss(tag_BKhw, cell_BPK)
        return pull_B, push_B
    if not torch.compiler.is_compiling():
        _warn_of_fallback(device)
    return tag_loss_formula(tag_BKhw, cell_BPK)


def tag_loss_formula(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor]:
    """`tag_loss` in pure PyTorch, used where no library is.

    Sums are in float32 (float64 for float64 maps). On CUDA the gradients of shared cells are added in a
    varying order, which changes the last bits.
    """
    _, _, h, w = tag_BKhw.shape
    visible_BPK = (cell_BPK >= 0) & (cell_BPK < h * w)
    broken_B = (~visible_BPK & (cell_BPK != -1)).flatten(1).any(1)
    if not torch.compiler.is_compiling() and cell_BPK.device.type == "cpu" and broken_B.any():
        found = f"cell_BPK has values from {cell_BPK.min()} to {cell_BPK.max()}"
        raise RuntimeError(f"{found}, expected -1 (absent) or 0 to {h * w - 1}")

    index_BKP = cell_BPK.where(visible_BPK, 0).transpose(1, 2)
    tag_BPK = tag_BKhw.flatten(2).gather(2, index_BKP).transpose(1, 2)
    tag_BPK = tag_BPK.to(torch.promote_types(tag_BKhw.dtype, torch.float32)).where(visible_BPK, 0)
    joints_BP = visible_BPK.sum(2)
    present_BP = joints_BP > 0
    people_B = present_BP.sum(1)
    mean_BP = tag_BPK.sum(2) / joints_BP.clamp(min=1)

    away_BPK = (tag_BPK - mean_BP[:, :, None]).where(visible_BPK, 0)
    pull_B = (away_BPK.square().sum(2) / joints_BP.clamp(min=1)).sum(1) / people_B.clamp(min=1)

    energy_BPP = torch.exp(-(mean_BP[:, :, None] - mean_BP[:, None, :]).square())
    other_PP = ~torch.eye(cell_BPK.shape[1], dtype=torch.bool, device=cell_BPK.device)
    pair_BPP = present_BP[:, :, None] & present_BP[:, None, :] & other_PP
    push_B = 0.5 * energy_BPP.where(pair_BPP, 0).sum((1, 2)) / (people_B * (people_B - 1)).clamp(min=1)
    return pull_B.where(~broken_B, torch.nan), push_B.where(~broken_B, torch.nan)


def load(folder: str | Path | None = None) -> frozenset[str]:
    """Load the usable libraries of a build folder (by default `build/`, or POSE_BUILD).

    Returns the device types that have a kernel now. Called when this module is imported, and to be called
    after building in the same process. A device whose library is loaded already keeps it.
    """
    folder = build_ext.build_folder() if folder is None else Path(folder)
    for device in ("cpu", "cuda"):  # the first one contains the schema
        library = build_ext.library_path(folder, device)
        if device in _loaded or device in _tried:
            continue
        if device == "cuda" and torch.version.cuda is None:
            _missing[device] = "this torch has no CUDA"
        elif device == "cuda" and "cpu" not in _loaded:
            _missing[device] = _missing["cpu"]
        elif not library.is_file():
            _missing[device] = f"{library} does not exist (`dvc repro build_ext` builds it)"
        elif not build_ext.is_current(folder):
            _missing[device] = f"{library} was built from other sources (`dvc repro build_ext` rebuilds it)"
        else:
            try:
                torch.ops.load_library(str(library))
                if device == "cpu":
                    _register()
                _loaded.add(device)
            except (OSError, RuntimeError) as error:
                _missing[device] = f"{library} cannot be loaded: {' '.join(str(error).split())}"
    return frozenset(_loaded)


def is_usable(device: str) -> bool:
    """Whether the compiled kernels run on a type of device (`cpu`, `cuda`)."""
    _try(device)
    return device in _loaded


def _try(device: str) -> None:
    """Call both kernels when a device is first used; it no longer counts as loaded if they cannot run.

    Loading does not show that a GPU is older than those compiled for, or the driver older than the compiler.
    """
    if device in _tried or device not in _loaded:
        return
    _tried.add(device)
    maps, cells = torch.zeros(1, 1, 1, 1, device=device), torch.zeros(1, 1, 1, device=device).long()
    try:
        pull_B, push_B, *saved = torch.ops.pose.tag_loss(maps, cells)
        torch.ops.pose.tag_loss_backward(pull_B, push_B, *saved, maps, cells)
    except RuntimeError as error:
        _loaded.discard(device)
        _missing[device] = f"its kernels do not run here: {str(error).strip().splitlines()[0]}"


def _check(tag_BKhw: Tensor, cell_BPK: Tensor) -> None:
    if tag_BKhw.ndim != 4 or cell_BPK.ndim != 3 or tag_BKhw.shape[:2] != cell_BPK.shape[::2]:
        expected = "the shapes (B, K, h, w) and (B, P, K)"
    elif tag_BKhw.dtype not in MAP_TYPES or cell_BPK.dtype != torch.int64:
        expected = "float32, float64, float16 or bfloat16, and int64"
    elif tag_BKhw.device != cell_BPK.device:
        expected = "one device"
    else:
        return
    both = (("tag_BKhw", tag_BKhw), ("cell_BPK", cell_BPK))
    found = [f"{name} of shape {tuple(one.shape)}, {one.dtype}, on {one.device}" for name, one in both]
    raise ValueError(f"found {' and '.join(found)}, expected {expected}")


def _register() -> None:
    """Register what C++ cannot: shapes without data, and the backward pass."""
    torch.library.register_fake("pose::tag_loss")(_fake)
    torch.library.register_fake("pose::tag_loss_backward")(_fake_backward)
    torch.library.register_autograd("pose::tag_loss", _backward, setup_context=_setup_context)
    torch.library.register_autograd("pose::tag_loss_backward", _refuse)


def _fake(tag_BKhw: Tensor, cell_BPK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, P, K = cell_BPK.shape
    loss_B = tag_BKhw.new_empty(B, dtype=torch.promote_types(tag_BKhw.dtype, torch.float32))
    pull_grad_BPK = tag_BKhw.new_empty((B, P, K), dtype=torch.float64)
    return loss_B, torch.empty_like(loss_B), pull_grad_BPK, pull_grad_BPK.new_empty((B, P))


def _fake_backward(_1: Tensor, _2: Tensor, _3: Tensor, _4: Tensor, tag_BKhw: Tensor, _5: Tensor) -> Tensor:
    return tag_BKhw.new_empty(tag_BKhw.shape)


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    _, _, pull_grad_BPK, push_grad_BP = output
    ctx.mark_non_differentiable(pull_grad_BPK, push_grad_BP)
    ctx.save_for_backward(pull_grad_BPK, push_grad_BP, *inputs)


def _backward(ctx: Any, grad_pull_B: Tensor, grad_push_B: Tensor, *_: Tensor) -> tuple[Tensor, None]:
    # The kernel reads only size and type of the maps; passing them makes a second derivative call _refuse.
    return torch.ops.pose.tag_loss_backward(grad_pull_B, grad_push_B, *ctx.saved_tensors), None


def _refuse(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("tag_loss can be differentiated once, not twice")


@cache
def _warn_of_fallback(device: str) -> None:
    log.warning("falling back to pure PyTorch on %s: %s", device, _missing.get(device, "no kernel for it"))


load()
