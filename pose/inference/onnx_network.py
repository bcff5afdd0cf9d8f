"""Files of `pose export --to onnx` run by ONNX Runtime, for `Predictor`; PyTorch is not imported.

B images, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.data.augment import image_affine, warp
from pose.io.errors import DamagedFileError, UserError, installed, reading
from pose.io.files import read_bytes
from pose.io.schema import parse
from pose.keypoints.heatmap import decode, flip_back
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.params.problem import MultiInferenceParams, SingleInferenceParams
from pose.tasks.arrays import Box, Maps, box_affine, group_maps, one_person, refuse_boxes

if TYPE_CHECKING:
    from pose.models.weights import ProblemKind

# Before ONNX Runtime is imported, which else keeps a database of its use in the user's home, to be sent.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

FORMAT = "pose-export-1"
KEY = "pose"  # of the description in a file's metadata, see `pose.inference.export.describe`
SCHEMAS: dict[str, type[SingleInferenceParams | MultiInferenceParams]] = {
    "single": SingleInferenceParams,
    "multi": MultiInferenceParams,
}
GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxNetwork:
    """An exported network. flip: test-time augmentation, as of `predict_batches`."""

    def __init__(self, session: Any, about: dict[str, Any], source: str, *, flip: bool):
        """about: the file's description. UserError, naming the source, if it cannot be used."""
        self.task, self.problem = str(about["task"]), about["problem"]
        self.skeleton = parse(Skeleton, about["skeleton"], f"{source}: skeleton")
        schema = SCHEMAS[self.problem]
        self._params = parse(schema, about["inference"], f"{source}: inference")
        self._session, self._flip = session, flip
        self._outputs = ["heatmap"] if self.problem == "single" else ["heatmap", "tag"]

    task: str
    problem: ProblemKind
    skeleton: Skeleton

    @staticmethod
    def load(path: str | Path, device: str | None, *, flip: bool, scales: Sequence[float]) -> OnnxNetwork:
        """Read an exported file; UserError, naming the file, for anything else, and for further scales."""
        if {*scales} - {1}:
            found = ", ".join(f"{scale:g}" for scale in scales)
            raise UserError(f"{path}: found scales {found}, expected 1: other scales need weights (.pt)")
        data = read_bytes(path, "an exported network")
        with installed(f"to run {path}: pip install 'pose[onnx]'"):
            import onnxruntime
        providers = _providers(device, onnxruntime.get_available_providers())
        with reading(path, "an exported network"):
            session = onnxruntime.InferenceSession(data, providers=providers)
            text = session.get_modelmeta().custom_metadata_map.get(KEY)
            about = json.loads(text) if text else {}
            if about.get("format") != FORMAT:
                found = f"found {about.get('format', 'no description')!r}"
                raise DamagedFileError(
                    f"{path}: {found}, expected a file of pose export --to onnx ({FORMAT})"
                )
            return OnnxNetwork(session, about, str(path), flip=flip)

    def find(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None]) -> list[People]:
        """The people of each image of a batch, in its own px."""
        params, size = self._params, self._params.input_size
        if isinstance(params, SingleInferenceParams):
            affines = [box_affine(*one, params) for one in zip(images, boxes, strict=True)]
            shown = [warp(*one, size) for one in zip(images, affines, strict=True)]
            maps_BKhw = np.mean([maps["heatmap"] for maps in self._run(shown)], axis=0)
            joint_BK2, score_BK = decode(maps_BKhw, target=params.target)
            found = joint_BK2.astype(np.float64), score_BK, affines
            return [one_person(*person) for person in zip(*found, strict=True)]
        refuse_boxes(boxes)
        affines = [image_affine(np.array(image.shape[1::-1]), size) for image in images]
        outputs = self._run([warp(*one, size) for one in zip(images, affines, strict=True)])
        heatmap_BKhw = np.mean([maps["heatmap"] for maps in outputs], axis=0)
        tag_BKhwT = np.stack([maps["tag"] for maps in outputs], axis=-1)
        views = map(Maps, heatmap_BKhw, tag_BKhwT, affines)
        return [group_maps(view, params, self.skeleton) for view in views]

    def _run(self, images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Maps BKhw by name, of uint8 inputs of the network's size, and of their mirror images."""
        image_B3HW = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255

        def outputs(image_B3HW: np.ndarray) -> dict[str, np.ndarray]:
            found = self._session.run(self._outputs, {"image": image_B3HW})
            return dict(zip(self._outputs, found, strict=True))

        seen = [outputs(image_B3HW)]
        if self._flip:
            mirrored = outputs(np.ascontiguousarray(image_B3HW[..., ::-1]))
            seen.append({name: flip_back(one, self.skeleton.flip_index) for name, one in mirrored.items()})
        return seen


def _providers(device: str | None, available: Sequence[str]) -> list[Any]:
    """What runs the network, in order of preference; UserError for a device that there is not."""
    kind, _, number = (device or ("cuda" if GPU in available else "cpu")).partition(":")
    if (kind, number) == ("cpu", ""):
        return [CPU]
    if kind != "cuda" or GPU not in available or not (number or "0").isdecimal():
        expected = "expected cpu, or where this ONNX Runtime has it cuda or cuda:0 ..."
        raise UserError(f"device: found {device!r}, {expected}")
    return [(GPU, {"device_id": number or "0"}), CPU]
