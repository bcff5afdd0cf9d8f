"""On what a run is trained: what may change when it is resumed, and moves the last bits of its weights."""

from __future__ import annotations

import os
from typing import Any

import cv2
import h5py
import numpy as np
import torch

from pose.ops import tag_loss as ops

# Environment variables that limit the instructions of libraries which cannot be asked what they chose.
LIMITS = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
)
ONEDNN_FEATURES = {
    "avx2": "_is_avx2_supported",
    "avx512": "_is_avx512_supported",
    "vnni": "_is_vnni_supported",
    "bf16": "_is_avx512_bf16_supported",
    "amx": "_is_amx_tile_supported",
}


def environment(device: torch.device, *, processes: int, epochs: int, tags: bool) -> dict[str, Any]:
    """What may change when a run is resumed, plain values. tags: is there a tag loss?

    `instructions`: those of the CPU that oneDNN may choose from, and environment variables that limit it.
    `arithmetic`: how a GPU multiplies float32 numbers, and whether cuDNN chooses its kernels by trial.
    `numpy`, `opencv`: version and the instructions that are dispatched to. The CPU's model is no part of it,
    so that weights of two machines with the same instructions can be equal files.
    """
    cpu = f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
    found: dict[str, Any] = {"torch": str(torch.__version__), "device": cpu}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cudnn"] = torch.backends.cudnn.version()
        found["arithmetic"] = _gpu_arithmetic()
    else:
        found["instructions"] = _instructions()
    found |= {"numpy": _numpy(), "opencv": _opencv(), "h5py": h5py.__version__}
    found |= {"processes": processes, "epochs": epochs}
    return found | ({"operator": "built" if ops.is_usable(device.type) else "plain"} if tags else {})


def merge_environments(earlier: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The environment of a run that was resumed in another than before, and a line for each difference."""
    merged, changes = dict(earlier), []
    for key in earlier | now:
        value, last = now.get(key), str(earlier.get(key)).rpartition(" then ")[2]
        if last != str(value):
            merged[key] = f"{earlier.get(key)} then {value}"
            changes.append(f"{key} was {last}, is {value}")
    return merged, changes


def _instructions() -> str:
    names = [name for name, asks in ONEDNN_FEATURES.items() if getattr(torch.cpu, asks, bool)()]
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]
    return " ".join([*names, *limits])


def _gpu_arithmetic() -> str:
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    trial = torch.backends.cudnn.benchmark
    return f"matrices {matrices}, convolutions {'tf32' if convolutions else 'float32'}, by trial {trial}"


def _numpy() -> str:
    from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
        __cpu_dispatch__,
        __cpu_features__,
    )

    return " ".join([np.__version__, *(name for name in __cpu_dispatch__ if __cpu_features__[name])])


def _opencv() -> str:
    """OpenCV's line names what it dispatches to with a star, and what is there but disabled with `?` too."""
    words = cv2.getCPUFeaturesLine().split()
    names = [word.lstrip("*") for word in words if word.startswith("*") and not word.endswith("?")]
    return " ".join([cv2.__version__, *names])
