"""Model weights for elsewhere: as ONNX, as a program of `torch.export`, as safetensors. `pose export`.

B images, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pose.inference.onnx_network import FORMAT, KEY
from pose.io.errors import UserError, installed
from pose.io.files import atomic_write, check_target
from pose.keypoints.geometry import STRIDE
from pose.models.weights import SAFETENSORS, load_weights, save_weights
from pose.tasks.multi import MultiPerson
from pose.tasks.task import Model, load_model

Format = Literal["onnx", "torch", "safetensors"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": SAFETENSORS}
DESCRIPTION = "pose.json"  # of the file in a torch.export program; an ONNX file has the key KEY
BATCHES = (1, 2, 5)  # that are compared
TOLERANCE = 1e-4  # largest difference, heatmaps being 0 to 1
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Network = Callable[[np.ndarray], Sequence[np.ndarray]]


class ExportedNetwork(nn.Module):
    """image_B3HW (RGB, 0 to 1) -> heatmap_BKhw and, of several people, tag_BKhw.

    The mean colour is subtracted, the last stack taken, and the output activated, inside.
    """

    mean: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net, self.problem = model.net, model.problem
        self.maps = {"heatmap": self.problem.heatmaps}
        if isinstance(self.problem, MultiPerson):
            self.maps["tag"] = self.problem.tags
        self.register_buffer("mean", torch.tensor(model.mean)[:, None, None])
        self.requires_grad_(False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""
        return tuple(self.maps)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of `names`."""
        output_BSChw = self.net(image_B3HW - self.mean)
        return tuple(read(output_BSChw) for read in self.maps.values())


def export(source: Path, format: Format, out: Path | None = None) -> Path:
    """Write model weights for elsewhere beside them, or as `out`; returns the file.

    Of safetensors, all here read it as they read the weights. A network for another runtime takes any number
    of images at once. It holds a description (see `describe`), and is compared with the network here on
    BATCHES random images before it gets its name. UserError for weights that cannot be used, packages that
    are missing, and outputs that differ by more than TOLERANCE.
    """
    weights = load_weights(source)
    target = out or source.with_suffix(SUFFIXES[format])
    check_target(target, source, [SUFFIXES[format]])
    model = load_model(weights, str(source), torch.device("cpu"))
    if format == "safetensors":
        save_weights(target, weights)
        return target
    with installed("to export: pip install 'pose[onnx]'"):
        for package in PACKAGES if format == "onnx" else ():
            import_module(package)
    module = ExportedNetwork(model).eval()
    side = model.problem.params.input_size
    description = describe(module, model.name) | {"provenance": weights.provenance}
    example_B3HW = torch.zeros(2, 3, side, side)
    shapes = {"image_B3HW": {0: torch.export.Dim("batch", min=1, max=4096)}}
    with torch.inference_mode(), atomic_write(target) as unfinished:
        program = torch.export.export(module, (example_B3HW,), dynamic_shapes=shapes)
        if format == "onnx":
            _write_onnx(program, module.names, description, unfinished)
        else:
            content = io.BytesIO()  # by its name it would have to be a file ending in .pt2
            torch.export.save(program, content, extra_files={DESCRIPTION: json.dumps(description)})
            unfinished.write_bytes(content.getvalue())
        _compare(module, LOADERS[format](unfinished), side, target)
    return target


def describe(module: ExportedNetwork, task: str) -> dict[str, Any]:
    """Plain values by which a program that has no code of ours uses the network.

    input: the image is `input_size` px a side. outputs: of `input_size / stride` cells a side; `tag` tells
    people apart: joints of one person have similar values. skeleton, inference: as weights store them.
    """
    problem = module.problem
    return {
        "format": FORMAT,
        "task": task,
        "problem": problem.kind,
        "input": {"name": "image", "layout": "B3HW", "colours": "RGB", "from": 0.0, "to": 1.0},
        "outputs": list(module.names),
        "stride": STRIDE,
        "skeleton": problem.skeleton.model_dump(mode="json"),
        "inference": problem.inference_params(),
    }


def _write_onnx(
    program: torch.export.ExportedProgram, names: Sequence[str], description: dict[str, Any], path: Path
) -> None:
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # which packages it does without
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        written = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=[*names], verbose=False
        )
    assert written is not None
    model = written.model_proto
    onnx.helper.set_model_props(model, {KEY: json.dumps(description)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _load_onnx(path: Path) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda image_B3HW: session.run(None, {"image": image_B3HW})


def _load_torch(path: Path) -> Network:
    loaded = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return lambda image_B3HW: [one.numpy() for one in loaded(torch.from_numpy(image_B3HW))]


LOADERS: dict[str, Callable[[Path], Network]] = {"onnx": _load_onnx, "torch": _load_torch}


def _compare(module: ExportedNetwork, exported: Network, side: int, name: Path) -> None:
    rng = np.random.default_rng(0)
    for batch in BATCHES:
        image_B3HW = rng.random((batch, 3, side, side), dtype=np.float32)
        expected = module(torch.from_numpy(image_B3HW))
        for output, wanted, found in zip(module.names, expected, exported(image_B3HW), strict=True):
            limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
            difference = float(np.abs(found - wanted.numpy()).max())
            if not difference <= limit:
                found_words = f"found {output} of {batch} images that differ by {difference:.2g}"
                raise UserError(f"{name}: {found_words} from PyTorch's, expected at most {limit:.2g}")
