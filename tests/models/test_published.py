"""Published weights read into our networks and written back."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, SMALL_EXTERNAL, internal_network
from torch import Tensor

from pose.inference.predictor import Predictor, load_model
from pose.io.errors import UserError
from pose.models.ae_hourglass import AEHourglass
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass
from pose.models.published import (
    PEERS,
    export_weights,
    import_weights,
    read_published,
    write_exported,
    write_imported,
)
from pose.models.weights import load_weights

ALL = sorted(PEERS)


# Small networks of ours, as each of the published codes could hold them


def theirs(kind: str) -> dict[str, Tensor]:
    return export_weights(internal_network(kind).state_dict(), kind)


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# The recorded networks


@pytest.fixture(scope="module")
def reference() -> Path:
    """Folder of the published networks' names, shapes and recorded outputs."""
    folder = Path(os.environ.get("POSE_REFERENCE", ROOT.parent / "shared" / "reference")) / "peer_networks"
    if not folder.is_dir():
        pytest.skip(
            f"no recorded outputs at {folder} (set POSE_REFERENCE to the folder that holds peer_networks)"
        )
    return folder


def recipe(spec: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by which the recorded outputs were made, under the published names."""
    rng = np.random.default_rng(spec["seed"])
    tensors = {}
    for name, shape in spec["tensors"]:
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        if name.endswith("running_var"):
            value = rng.uniform(0.75, 1.25, shape)
        elif name.endswith("running_mean"):
            value = 0.1 * rng.standard_normal(shape)
        elif len(shape) == 4:
            value = np.sqrt(0.6 / np.prod(shape[1:])) * rng.standard_normal(shape)
        elif name.endswith("weight"):
            value = rng.uniform(0.75, 1.25, shape)
        else:
            value = 0.05 * rng.standard_normal(shape)
        tensors[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return tensors


@pytest.mark.parametrize("kind", ALL)
def test_published_weights_give_the_recorded_output(kind: str, reference: Path, tmp_path: Path):
    spec = json.loads((reference / f"{kind}.json").read_text())
    weights = recipe(spec)
    path = written(
        tmp_path / "theirs.pt",
        {PEERS[kind].key: {spec["checkpoint_prefix"] + name: x for name, x in weights.items()}, "epoch": 3},
    )
    net, tensors = import_weights(path)  # nothing says which network it is
    image = torch.from_numpy(
        np.random.default_rng(spec["seed"] + 1).random(spec["input_shape"]).astype(np.float32)
    )
    with torch.inference_mode():
        found = net(image).numpy()
    expected = np.load(reference / f"{kind}.npz")["output"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    again = export_weights(tensors, kind)
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", ALL)
def test_the_peers_are_told_apart_and_measured_by_their_tensors(kind: str, reference: Path):
    spec = json.loads((reference / f"{kind}.json").read_text())
    found = read_published({name: torch.zeros(shape) for name, shape in spec["tensors"]})
    assert found.peer.name == kind
    assert (
        spec["config"].items() - {("in_channels", 19)}
        <= (found.settings | {"out_channels": found.settings.get("outputs"), "stem": None}).items()
    )
    assert (spec["checkpoint_prefix"], found.peer.key in spec["checkpoint_layout"]) == (
        found.peer.prefix,
        True,
    )


# The same without the recorded networks


@pytest.mark.parametrize("kind", ALL)
def test_what_is_exported_comes_back_equal_whatever_the_wrapping(kind: str, tmp_path: Path):
    net, peer = internal_network(kind), PEERS[kind]
    bare = export_weights(net.state_dict(), kind)
    prefixed = {peer.prefix + name: tensor for name, tensor in bare.items()}
    write_exported(net.state_dict(), tmp_path / "theirs.pt", kind)
    for source in (bare, prefixed, {peer.key: bare}, tmp_path / "theirs.pt"):
        found = read_published(source)
        assert (found.peer.name, found.settings) == (kind, SMALL_EXTERNAL[kind])
        assert equal(found.tensors, net.state_dict())


def test_exported_names_are_the_published_ones():
    names = set(theirs("bearpaw_hg"))
    assert {
        "layer1.0.downsample.0.weight",
        "hg.0.hg.3.2.1.bn3.running_var",
        "hg.0.hg.0.3.0.conv2.bias",
        "fc.0.1.bias",
    } <= names
    assert "hg.0.hg.1.3.0.conv2.bias" not in names  # only the smallest scale has a fourth place
    assert {"res1.conv_skip.weight", "hg.1.hg.3.3.0.conv1.weight", "score_.0.weight", "fc.1.1.bias"} <= set(
        theirs("roytseng_hgpose")
    )
    assert {"head.5.weight", "features.1.0.low2.low2.low2.low2.0.0.bias", "features.0.3.bias"} <= set(
        theirs("roytseng_hgpose_ae")
    )
    assert {"pre.4.conv.weight", "features.0.0.low2.up1.conv.bias", "features.0.2.conv.bias"} <= set(
        theirs("umich_pose_ae")
    )


@pytest.mark.parametrize("kind", ALL)
def test_an_imported_network_answers_as_the_one_exported(kind: str):
    net, (imported, _) = internal_network(kind), import_weights(theirs(kind))
    image = torch.rand(1, 20 if kind == "roytseng_discriminator" else 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(net(image), imported(image))
    assert not imported.training


def test_an_imported_network_can_be_trained_and_leaves_its_source_alone():
    source = theirs("umich_pose_ae")
    before = {name: tensor.clone() for name, tensor in source.items()}
    net, _ = import_weights(source)
    net.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    assert equal(source, before)


def test_importing_draws_no_random_numbers():
    source, before = theirs("roytseng_hgpose"), torch.get_rng_state()
    import_weights(source)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_two_networks_gives_the_pose_network_unless_the_other_is_asked_for():
    both = {"netD": theirs("roytseng_discriminator"), "netHg": theirs("roytseng_hgpose"), "kt": 0.1}
    assert isinstance(import_weights(both)[0], StackedHourglass)
    assert isinstance(import_weights(both, "roytseng_discriminator")[0], Discriminator)
    assert isinstance(import_weights({"netD": theirs("roytseng_discriminator")})[0], Discriminator)
    assert isinstance(import_weights(both | {"netHg": theirs("roytseng_hgpose_ae")})[0], AEHourglass)


def test_weights_from_before_batches_were_counted_are_read():
    old = {
        name: tensor
        for name, tensor in theirs("bearpaw_hg").items()
        if not name.endswith("num_batches_tracked")
    }
    tensors = read_published(old).tensors
    assert {int(tensor) for name, tensor in tensors.items() if name.endswith("num_batches_tracked")} == {0}


def test_files_in_torchs_old_format_are_read(tmp_path: Path):
    torch.save(
        {"state_dict": theirs("umich_pose_ae"), "epoch": 9},
        tmp_path / "old.pth.tar",
        _use_new_zipfile_serialization=False,
    )
    assert read_published(tmp_path / "old.pth.tar").peer.name == "umich_pose_ae"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_of_another_precision_become_float32(dtype: torch.dtype):
    source = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in theirs("umich_pose_ae").items()
    }
    assert {tensor.dtype for tensor in read_published(source).tensors.values()} == {torch.float32}


# Weights for use


@pytest.mark.parametrize("kind", ["bearpaw_hg", "roytseng_hgpose", "roytseng_hgpose_ae", "umich_pose_ae"])
def test_an_imported_pose_network_is_ready_for_use(kind: str, tmp_path: Path):
    write_exported(internal_network(kind).state_dict(), tmp_path / "theirs.pt", kind)
    write_imported(tmp_path / "theirs.pt", tmp_path / "models" / "x.pt")
    weights = load_weights(tmp_path / "models" / "x.pt")
    ae = kind.endswith("ae")
    assert (weights.task, weights.params.target, weights.params.input_size) == (
        ("hgpose-ae", "floor", 512) if ae else ("hgpose", "floor", 256)
    )
    assert weights.network.model_dump(exclude={"kind"}) == {
        key: value for key, value in SMALL_EXTERNAL[kind].items() if key != "joints"
    }
    assert weights.mean == ((0.4404, 0.4440, 0.4327) if kind == "bearpaw_hg" else (0, 0, 0))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        shown = image - torch.tensor(weights.mean)[:, None, None]
        assert torch.allclose(
            load_model(tmp_path / "models" / "x.pt", "cpu")(image), internal_network(kind)(shown), atol=1e-6
        )


def test_imported_weights_find_people_in_a_picture(tmp_path: Path):
    for kind in ("bearpaw_hg", "umich_pose_ae"):
        write_exported(internal_network(kind).state_dict(), tmp_path / "theirs.pt", kind)
        write_imported(tmp_path / "theirs.pt", tmp_path / "x.pt")
        predictor = Predictor.load(tmp_path / "x.pt", "cpu")
        [people] = predictor.people([np.zeros((60, 80, 3), dtype=np.uint8)])
        assert people.joint_PK2.shape[1:] == (len(predictor.skeleton), 2)


def test_equal_weights_give_equal_files(tmp_path: Path):
    write_exported(internal_network("bearpaw_hg").state_dict(), tmp_path / "theirs.pt", "bearpaw_hg")
    for name in ("a.pt", "b.pt"):
        write_imported(tmp_path / "theirs.pt", tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_only_pose_networks_become_weights_for_use(tmp_path: Path):
    kind = "roytseng_discriminator"
    write_exported(internal_network(kind).state_dict(), tmp_path / "theirs.pt", kind)
    with pytest.raises(UserError, match=f"theirs.pt: found {kind}, expected a pose network"):
        write_imported(tmp_path / "theirs.pt", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_weights_for_another_skeleton_are_refused(tmp_path: Path):
    net = StackedHourglass(joints=14, stacks=1, modules=1, features=8, stem=[4, 4, 4])
    write_exported(net.state_dict(), tmp_path / "theirs.pt", "roytseng_hgpose")
    with pytest.raises(UserError, match="found 14 joints, expected the 16 of MPII"):
        write_imported(tmp_path / "theirs.pt", tmp_path / "x.pt")


def test_a_strided_stem_has_no_place_in_a_published_code():
    net = StackedHourglass(joints=16, stacks=1, modules=1, features=8, stem=[4, 8])
    for kind in ("bearpaw_hg", "roytseng_hgpose"):
        with pytest.raises(
            UserError,
            match=f"expected the tensors of our StackedHourglass with a stem of three numbers, as {kind} has it",
        ):
            export_weights(net.state_dict(), kind)


# What cannot be read


def refusal(source: Any, kind: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        import_weights(source, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_a_misshapen_and_a_surplus_tensor_are_named_with_the_file(tmp_path: Path):
    whole = {"module.model." + name: tensor for name, tensor in theirs("umich_pose_ae").items()}
    name = "module.model.features.0.0.low2.up1.conv.weight"
    cut = written(tmp_path / "cut.pt", {"state_dict": {key: x for key, x in whole.items() if key != name}})
    assert refusal(cut) == f"{cut}: tensor {name}: found nothing, expected (11, 11, 3, 3) (umich_pose_ae)"
    bent = written(tmp_path / "bent.pt", {"state_dict": whole | {name: torch.zeros(11, 15, 3, 3)}})
    assert (
        refusal(bent)
        == f"{bent}: tensor {name}: found (11, 15, 3, 3), expected (11, 11, 3, 3) (umich_pose_ae)"
    )
    more = written(
        tmp_path / "more.pt", {"state_dict": whole | {"module.model.outs.7.conv.weight": torch.zeros(1)}}
    )
    assert (
        refusal(more)
        == f"{more}: tensor module.model.outs.7.conv.weight: not part of umich_pose_ae of 1 stacks"
    )


def test_tensors_that_say_how_large_the_network_is_are_named_too():
    whole = theirs("umich_pose_ae")
    gone = {name: tensor for name, tensor in whole.items() if name != "outs.0.conv.weight"}
    assert (
        refusal(gone)
        == "state dict: tensor outs.0.conv.weight: found nothing, expected the weights of a convolution"
    )
    name = "features.0.0.low1.conv.weight"
    assert (
        refusal(whole | {name: torch.zeros(2, 8, 3, 3)})
        == f"state dict: tensor {name}: found 2 channels, expected at least 8"
    )


def test_another_network_than_asked_for_is_named():
    assert (
        refusal(theirs("bearpaw_hg"), "umich_pose_ae")
        == "state dict: found bearpaw_hg, expected umich_pose_ae"
    )
    assert refusal({}, "resnet").startswith("kind: found 'resnet', expected one of: bearpaw_hg, ")


@pytest.mark.parametrize(
    "content", [{}, {"state_dict": {}}, {"backbone.weight": torch.zeros(2)}, [1, 2], {"netHg": 3}]
)
def test_a_file_of_something_else_says_what_would_be_right(content: Any, tmp_path: Path):
    path = written(tmp_path / "other.pt", content)
    assert refusal(path).startswith(f"{path}: found ")
    assert "expected the tensors of one of: bearpaw_hg, " in refusal(path)


def test_our_own_weights_need_no_import(tmp_path: Path):
    write_exported(internal_network("bearpaw_hg").state_dict(), tmp_path / "theirs.pt", "bearpaw_hg")
    write_imported(tmp_path / "theirs.pt", tmp_path / "x.pt")
    assert "this project's own weights for use" in refusal(tmp_path / "x.pt")


def test_a_file_that_is_missing_cut_short_or_no_checkpoint_is_one_clear_line(tmp_path: Path):
    assert (
        refusal(tmp_path / "no.pt") == f"{tmp_path / 'no.pt'}: no such file, expected a published checkpoint"
    )
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    assert refusal(tmp_path / "text.pt").endswith(
        "cannot be read as a published checkpoint: damaged, or not written by torch"
    )
    whole = written(tmp_path / "whole.pt", theirs("umich_pose_ae")).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as a published checkpoint" in refusal(tmp_path / "cut.pt")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_file_is_ever_run(tmp_path: Path):
    path = written(
        tmp_path / "trap.pt", {"state_dict": theirs("umich_pose_ae"), "trap": Trap(tmp_path / "made")}
    )
    assert "found a Python object (posix.mkdir)" in refusal(path)
    assert not (tmp_path / "made").exists()
    options = written(
        tmp_path / "options.pt", {"state_dict": theirs("umich_pose_ae"), "args": Namespace(lr=1)}
    )
    assert "found a Python object (argparse.Namespace)" in refusal(options)


def test_a_network_is_exported_only_under_names_of_its_own_kind():
    with pytest.raises(
        UserError,
        match="expected the tensors of our AEHourglass with a stem of three numbers, as umich_pose_ae has it",
    ):
        export_weights(internal_network("bearpaw_hg").state_dict(), "umich_pose_ae")
    with pytest.raises(
        UserError,
        match="expected the tensors of our StackedHourglass with a stem of three numbers, as bearpaw_hg has it",
    ):
        export_weights(internal_network("roytseng_discriminator").state_dict(), "bearpaw_hg")
