"""Model weights: what is written comes back, and nothing that differs between equal runs."""

import json
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import COCO, CPU, MPII, build_cpu_task, user_error

from pose.io.errors import DamagedFileError
from pose.io.torch_file import load_torch, save_torch
from pose.models.weights import FORMAT, Weights, build_network, load_weights, save_weights
from pose.params import Params


@pytest.fixture(scope="module")
def weights(params: Params) -> Weights:
    return build_cpu_task(params, "hgpose").weights()


SUFFIXES = pytest.mark.parametrize("suffix", ["pt", "safetensors"])


@SUFFIXES
@pytest.mark.parametrize(("name", "skeleton"), [("hgpose", MPII), ("hgpose-ae", COCO)])
def test_weights_carry_their_skeleton_and_inference_parameters_and_no_others(
    params, name, skeleton, suffix, tmp_path
):
    task = build_cpu_task(params, name)
    weights = replace(task.weights(), mean=(0.5, 0.25, 0.125), provenance={"lr": 0.1, "torch": "2.13"})
    save_weights(tmp_path / f"last.{suffix}", weights)
    loaded = load_weights(tmp_path / f"last.{suffix}")
    assert loaded.skeleton == skeleton
    assert loaded.inference == task.problem.inference_params()
    assert loaded.inference.keys() < task.problem.params.model_dump().keys()
    assert "augment" not in loaded.inference
    fields = ("task", "problem", "network", "outputs", "mean", "provenance")
    assert all(getattr(loaded, field) == getattr(weights, field) for field in fields)
    net, tensors = build_network(loaded, "last.pt", CPU), task.net.state_dict()
    assert not net.training
    assert net.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in net.state_dict().items())


@SUFFIXES
def test_equal_weights_give_equal_bytes(params, suffix, tmp_path):
    first, second, third = (tmp_path / f"{name}.{suffix}" for name in "abc")
    for path in (first, second):
        save_weights(path, build_cpu_task(params, "hgpose-ae").weights())
    save_weights(third, load_weights(first))
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_other_programs_read_safetensors_and_their_header(weights, tmp_path):
    save_weights(tmp_path / "last.safetensors", weights)
    data = (tmp_path / "last.safetensors").read_bytes()
    found = safetensors.numpy.load(data)
    assert found.keys() == weights.tensors.keys()
    name, tensor = next(iter(weights.tensors.items()))
    assert (found[name] == tensor.numpy()).all()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["pose"])["skeleton"]["name"] == "mpii"


def test_safetensors_of_another_origin_and_a_missing_package_are_named(weights, tmp_path, monkeypatch):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}))
    with user_error(f"other.safetensors: found None, expected model weights .*{FORMAT}"):
        load_weights(path)
    path.write_bytes(b"not at all")
    with user_error(r"other\.safetensors: cannot be read as model weights"):
        load_weights(path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with user_error(r"^safetensors: not installed, .*pip install 'pose\[safetensors\]'$"):
        save_weights(path, weights)


def test_an_exported_network_is_named_as_what_it_is(tmp_path):
    for name, what in {"x.onnx": "an ONNX network", "x.PT2": r"a program of torch\.export"}.items():
        with user_error(f"{name}: no such file, expected model weights"):
            load_weights(tmp_path / name)
        (tmp_path / name).write_bytes(b"\x08\x0a")
        with user_error(rf"{name}: found {what}, expected weights \(\.pt or \.safetensors\)"):
            load_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pose-weights-1"}, f"found 'pose-weights-1', expected model weights .*{FORMAT}"),
        ({"problem": "dance"}, "problem: found 'dance'"),
        ({"network": {"kind": "unet"}}, r"network\.kind: found 'unet'"),
        ({"skeleton": {"name": "x"}}, "missing key skeleton.joints"),
        ({"mean": [0.5, 0.5]}, "missing key mean.2"),
        ({"mean": ["a", "b", "c"]}, "mean.0: found 'a'"),
        ({"surprise": 1}, "unknown key surprise"),
        ({"tensors": {"w": 3}}, "tensors.w: found 3"),
        ({"tensors": {"w": torch.tensor([float("nan")])}}, "tensor w: found numbers that are not finite"),
        ({"tensors": {"w": torch.eye(2).to(torch.float8_e5m2)}}, "tensor w: found torch.float8_e5m2"),
        ({"tensors": {"w": torch.eye(2).to_sparse()}}, "tensor w: found .*sparse.*, expected plain numbers"),
    ],
)
def test_a_wrong_header_is_one_line_that_names_the_file(weights, changes, message, tmp_path):
    path = tmp_path / "last.pt"
    save_weights(path, weights)
    save_torch(path, load_torch(path, "weights") | changes)
    with user_error(f"^{path}: .*{message}"):
        load_weights(path)


def test_a_small_file_of_more_values_than_memory_holds_is_refused(weights, tmp_path):
    path, shared, itself, deep = tmp_path / "last.pt", [1.0], [], []
    for _ in range(30):
        shared = [shared] * 10
    itself.append(itself)
    for _ in range(200):
        deep = [deep]
    save_weights(path, weights)
    content = load_torch(path, "weights")
    for values in (shared, itself, deep):
        save_torch(path, content | {"provenance": {"notes": values}})
        with pytest.raises(DamagedFileError, match=r"last\.pt: .*found more than 10,000,000 values"):
            load_weights(path)


def test_compressed_weights_which_could_fill_the_memory_are_refused(weights, tmp_path):
    save_weights(tmp_path / "last.pt", weights)
    with (
        zipfile.ZipFile(tmp_path / "last.pt") as stored,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for member in stored.infolist():
            compressed.writestr(member.filename, stored.read(member))
    with pytest.raises(DamagedFileError, match=r"small\.pt: .*found compressed tensors"):
        load_weights(tmp_path / "small.pt")


@SUFFIXES
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_weights_that_are_cut_short_are_called_so(weights, share, suffix, tmp_path):
    path = tmp_path / f"last.{suffix}"
    save_weights(path, weights)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    reason = {"pt": "cut short", "safetensors": "deserializing header"}[suffix]
    with pytest.raises(
        DamagedFileError, match=rf"last\.{suffix}: cannot be read as model weights .*{reason}"
    ):
        load_weights(path)


@pytest.mark.parametrize("data", [b"text\n", b"\x80\x55abc", b"(", b"\xff\xfe", b"0.", b""])
def test_bytes_that_are_no_pickle_are_one_line_without_warnings(data, tmp_path, recwarn):
    (tmp_path / "x.pt").write_bytes(data)
    with user_error(r"x\.pt: cannot be read .* \(damaged, cut short, or not written by torch\)$"):
        load_weights(tmp_path / "x.pt")
    assert not recwarn.list


def test_something_else_than_weights_is_named(tmp_path):
    save_torch(tmp_path / "list.pt", [1, 2])
    with user_error(r"list\.pt: found 'list', expected model weights"):
        load_weights(tmp_path / "list.pt")


def test_tensors_of_another_architecture_are_named(weights):
    name = "heads.0.weight"
    cut = {key: tensor for key, tensor in weights.tensors.items() if key != name}
    with user_error(rf"^last.pt: of another architecture: tensor {name}: found nothing"):
        build_network(replace(weights, tensors=cut), "last.pt", CPU)
    huge = weights.network.model_copy(update={"features": 4096})  # needs no memory to be refused
    with user_error(r"^last.pt: of another architecture: tensor .*\(2048, "):
        build_network(replace(weights, network=huge), "last.pt", CPU)
