"""`pose export`: ONNX and torch.export files that give PyTorch's outputs, and say how they are used."""

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import MPII, ROOT, one_stack, user_error, with_values, write_active_weights, write_given_weights

from pose.cli import run
from pose.inference.export import SUFFIXES, ExportedNetwork, export
from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg, read_image
from pose.keypoints.geometry import STRIDE
from pose.models.weights import load_weights
from pose.params import Params
from pose.tasks.task import load_model

NETWORKS: dict[str, dict[str, Any]] = {
    "published stem": {"kind": "hourglass", "stacks": 1, "modules": 1, "features": 8, "stem": [4, 4, 8]},
    "strided stem": {"kind": "hourglass", "stacks": 1, "modules": 1, "features": 8, "stem": [4, 8]},
    "ae": {"kind": "ae", "stacks": 2, "features": 8, "increase": 4, "outputs": 20, "stem": [4, 4, 8]},
    "simple_baseline": {"kind": "simple_baseline", "stem": 4, "widths": [8, 8], "blocks": 1, "upsampled": 8},
}


def module_of(weights: Path) -> ExportedNetwork:
    model = load_model(load_weights(weights), str(weights), torch.device("cpu"))
    return ExportedNetwork(model).eval()


@pytest.fixture(scope="session")
def multi(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_active_weights(one_stack(params), tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_onnx_of_every_network_gives_what_pytorch_gives(params, tmp_path, network):
    """Of weights that subtract a mean colour."""
    params = with_values(params, {"tasks.hgpose.network": network})
    mean = (0.4, 0.3, 0.2)
    weights = write_given_weights(params, "hgpose", tmp_path, joints=MPII.joints, mean=mean)
    path, module = export(weights, "onnx"), module_of(weights)
    assert path == weights.with_suffix(".onnx")
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_outputs()] == ["heatmap"]
    side = module.problem.params.input_size
    for batch in (1, 3):
        image_B3HW = np.random.default_rng(batch).random((batch, 3, side, side), dtype=np.float32)
        [found] = session.run(None, {"image": image_B3HW})
        [expected] = module(torch.from_numpy(image_B3HW))
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4)
        assert np.ptp(found) > 0.001


def test_both_formats_tell_people_apart_and_hold_a_description(multi, tmp_path):
    module, side = module_of(multi), module_of(multi).problem.params.input_size
    image_B3HW = torch.rand(4, 3, side, side)
    heatmap, tag = (one.detach() for one in module(image_B3HW))
    onnx_path, torch_path = (export(multi, to, tmp_path / f"net{SUFFIXES[to]}") for to in ("onnx", "torch"))
    session = onnxruntime.InferenceSession(onnx_path)
    extra = {"pose.json": ""}
    program = torch.export.load(io.BytesIO(torch_path.read_bytes()), extra_files=extra).module()
    for found in (session.run(None, {"image": image_B3HW.numpy()}), program(image_B3HW)):
        np.testing.assert_allclose(found[0], heatmap, atol=1e-4)
        np.testing.assert_allclose(found[1], tag, atol=1e-3)
    described = json.loads(session.get_modelmeta().custom_metadata_map["pose"])
    assert described == json.loads(extra["pose.json"])
    assert described["outputs"] == ["heatmap", "tag"]
    assert described["skeleton"]["joints"][0] == "nose"
    assert described["inference"]["thresholds"]["group_by"] == "tags"


def test_the_code_of_the_docs_finds_a_persons_joints(exported_single, tmp_path, monkeypatch, capsys):
    """Within a cell: it takes the highest cell, and `Predictor` the place within it."""
    text = (ROOT / "docs/howto/export.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "models/hgpose").mkdir(parents=True)
    shutil.copy(exported_single.with_suffix(".onnx"), tmp_path / "models/hgpose/last.onnx")
    side = module_of(exported_single).problem.params.input_size
    noise_HW3 = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    (tmp_path / "person.jpg").write_bytes(encode_jpeg(noise_HW3, 95))
    [people] = Predictor.load(exported_single, flip=False).predict([read_image(tmp_path / "person.jpg")])
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == list(MPII.joints)
    found_K3 = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(found_K3[:, :2], people.joint_PK2[0], atol=STRIDE / 2 + 0.01)
    np.testing.assert_allclose(found_K3[:, 2], people.score_PK[0], atol=1e-4)


def test_the_command_says_what_it_wrote(multi, tmp_path, capsys):
    run(["export", str(multi), "--to", "torch", "--out", str(tmp_path / "net.pt2")])
    assert f"{tmp_path / 'net.pt2'}: finds what {multi} finds" in capsys.readouterr().out


def test_safetensors_are_weights_as_before(multi, tmp_path):
    path = export(multi, "safetensors", tmp_path / "net.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    [found], [wanted] = (Predictor.load(weights).predict([image]) for weights in (path, multi))
    np.testing.assert_array_equal(found.joint_PK2, wanted.joint_PK2)


@pytest.mark.parametrize("to", SUFFIXES)
def test_a_file_is_not_called_as_another_format_is_and_never_its_own_source(multi, tmp_path, to):
    before = multi.read_bytes()
    with user_error(rf"last\.pt: found the ending '\.pt', expected {re.escape(SUFFIXES[to])}$"):
        export(multi, to, multi)
    assert multi.read_bytes() == before
    source = export(multi, "safetensors", tmp_path / "net.safetensors")
    with user_error(r"net\.safetensors: found the source itself, expected another file to write"):
        export(source, "safetensors")


def test_a_file_that_differs_is_not_kept(multi, tmp_path, monkeypatch):
    monkeypatch.setattr("pose.inference.export.TOLERANCE", -1.0)
    with user_error(r"net\.pt2: found heatmap of 1 images that differ by .* from PyTorch's"):
        export(multi, "torch", tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_named(multi, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with user_error("onnxscript: not installed, expected it to export"):
        export(multi, "onnx", tmp_path / "net.onnx")
