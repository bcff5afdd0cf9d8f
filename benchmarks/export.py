"""Exported networks run by ONNX Runtime, beside the same in PyTorch: largest difference, and CPU time.

    python benchmarks/export.py [--rounds 7]

The hourglasses as the demo and as preset `paper` have them, the simple baseline as preset `baseline` does,
with weights as their seed draws them and batch norm's statistics of a few blurred images. One thread each;
PyTorch in float32 and channels_last.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import in_turns, shown, spread, write
from noise import noise_task, preset
from torch import nn

from pose.inference.export import BATCHES, TOLERANCE, ExportedNetwork, export
from pose.models.weights import load_weights, save_weights
from pose.tasks.task import load_model

NETWORKS = {
    "hourglass, demo": ("demo", "hgpose"),
    "hourglass, paper": ("paper", "hgpose"),
    "simple baseline, one person": ("baseline", "hgpose"),
    "simple baseline, several people": ("baseline", "hgpose-ae"),
    "associative embedding, demo": ("demo", "hgpose-ae"),
    "associative embedding, paper": ("paper", "hgpose-ae"),
}
TIMED = 1  # images at once, as in `pose predict` of a photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: measure(*which, options.rounds) for name, which in NETWORKS.items()}
    lines = [
        "# Exported networks beside PyTorch",
        "",
        f"Largest difference of an output on batches of {', '.join(map(str, BATCHES))} random images, as a",
        f"part of the largest value or of 1 (`pose export` refuses more than {TOLERANCE:g}); CPU ms of",
        f"one image; how many times as fast ONNX Runtime is: median of {options.rounds} rounds, and their",
        "middle half.",
        "",
        "| network | input, px | difference | PyTorch, ms | ONNX Runtime, ms | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        times = f"{row['torch_ms']:.1f} | {row['onnx_ms']:.1f} | {shown(row['ratio'])}"
        lines.append(f"| {name} | {row['size']} | {row['difference']:.1e} | {times} |")
    write("export", {"networks": rows, "onnxruntime": onnxruntime.__version__}, "\n".join(lines) + "\n")


def measure(preset_name: str, task_name: str, rounds: int) -> dict[str, Any]:
    """The row of one network."""
    with tempfile.TemporaryDirectory() as folder:
        params = preset(preset_name, Path(folder))
        task = noise_task(params, task_name)
        size = params.problem(task_name).input_size
        calibrate(task.net, size)
        path = Path(folder) / "weights.pt"
        save_weights(path, task.weights())
        module = ExportedNetwork(load_model(load_weights(path), str(path), torch.device("cpu"))).eval()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(export(path, "onnx").read_bytes(), options)

    def run_onnx(image_B3HW: np.ndarray) -> list[np.ndarray]:
        return session.run(list(module.names), {"image": image_B3HW})

    @torch.inference_mode()
    def run_torch(image_B3HW: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in module(torch.from_numpy(image_B3HW))]

    image_B3HW = np.random.default_rng(1).random((max(BATCHES), 3, size, size), dtype=np.float32)
    difference = 0.0
    for batch in BATCHES:
        some = image_B3HW[:batch]
        for wanted, found in zip(run_torch(some), run_onnx(some), strict=True):
            largest = max(1.0, float(np.abs(wanted).max()))
            difference = max(difference, float(np.abs(found - wanted).max()) / largest)
    module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    one = image_B3HW[:TIMED]
    seconds = in_turns({"torch": lambda: run_torch(one), "onnx": lambda: run_onnx(one)}, rounds)
    return {
        "size": size,
        "difference": difference,
        "torch_ms": 1000 * float(np.median(seconds["torch"])),
        "onnx_ms": 1000 * float(np.median(seconds["onnx"])),
        "ratio": spread(seconds["torch"] / seconds["onnx"]),
    }


def calibrate(net: nn.Module, size: int) -> None:
    """Statistics of batch norm, without which a deep network of random weights gives huge values."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # those of the last batch
    patches_B3hw = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.train()(nn.functional.interpolate(patches_B3hw, size=(size, size), mode="bilinear"))
    net.eval()


if __name__ == "__main__":
    main()
