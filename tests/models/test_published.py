"""Published weights read into our networks and written back."""

import json
import os
from argparse import Namespace
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, ROOT, SMALL_EXTERNAL, internal_network, user_error
from torch import Tensor

from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.models.external_formats import EXTERNAL_FORMATS
from pose.models.hourglass import StackedHourglass
from pose.models.published import export_file, export_weights, import_file, read_published
from pose.models.weights import load_weights
from pose.tasks.task import load_model

ALL = pytest.mark.parametrize("kind", sorted(EXTERNAL_FORMATS))
POSE_NETWORKS = sorted(set(EXTERNAL_FORMATS) - {"roytseng_discriminator"})


@cache
def external(kind: str) -> dict[str, Tensor]:
    """A small network of ours under its external names."""
    return export_weights(internal_network(kind).state_dict(), kind)


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def checkpoint(kind: str, path: Path) -> Path:
    """A file as the published code writes it."""
    format = EXTERNAL_FORMATS[kind]
    tensors = {format.prefix + name: tensor for name, tensor in external(kind).items()}
    return written(path, {format.key: tensors, "epoch": 3})


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# The recorded networks


@pytest.fixture(scope="module")
def reference() -> Path:
    """Folder of the published networks' names, shapes and recorded outputs."""
    folder = Path(os.environ.get("POSE_REFERENCE", ROOT.parent / "shared" / "reference")) / "peer_networks"
    if not folder.is_dir():
        pytest.skip(f"no recorded outputs at {folder} (set POSE_REFERENCE to the folder of peer_networks)")
    return folder


def recorded_weights(spec: Mapping[str, Any]) -> dict[str, Tensor]:
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


@ALL
def test_published_weights_give_the_recorded_output(kind, reference, tmp_path):
    spec, format = json.loads((reference / f"{kind}.json").read_text()), EXTERNAL_FORMATS[kind]
    weights = recorded_weights(spec)
    assert spec["checkpoint_prefix"] == format.prefix
    assert format.key in spec["checkpoint_layout"]
    prefixed = {format.prefix + name: tensor for name, tensor in weights.items()}
    found = read_published(written(tmp_path / "external.pt", {format.key: prefixed}))
    assert found.format.name == kind  # recognised without being named
    rng = np.random.default_rng(spec["seed"] + 1)
    with torch.inference_mode():
        output = found.network()(torch.from_numpy(rng.random(spec["input_shape"]).astype(np.float32))).numpy()
    expected = np.load(reference / f"{kind}.npz")["output"]
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() < 1e-4 * np.abs(expected).max()
    again = export_weights(found.tensors, kind)
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


# The same without the recorded networks


@ALL
def test_an_exported_network_comes_back_equal_whatever_the_wrapping(kind, tmp_path):
    net, bare, key = internal_network(kind), external(kind), EXTERNAL_FORMATS[kind].key
    wrapped = {"module." + name: tensor for name, tensor in bare.items()}
    for source in (bare, wrapped, {key: bare}, checkpoint(kind, tmp_path / "external.pt")):
        found = read_published(source)
        assert (found.format.name, found.settings) == (kind, SMALL_EXTERNAL[kind])
        assert equal(found.tensors, net.state_dict())
    image = torch.rand(1, 20 if kind == "roytseng_discriminator" else 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(net(image), found.network()(image))


def test_exported_names_are_the_published_ones():
    published = {
        "bearpaw_hg": {"layer1.0.downsample.0.weight", "hg.0.hg.3.2.1.bn3.running_var", "fc.0.1.bias"},
        "roytseng_hgpose": {"res1.conv_skip.weight", "hg.1.hg.3.3.0.conv1.weight", "score_.0.weight"},
        "roytseng_hgpose_ae": {"features.1.0.low2.low2.low2.low2.0.0.bias", "features.0.3.bias"},
        "umich_pose_ae": {"features.0.0.low2.up1.conv.bias", "features.0.2.conv.bias"},
    }
    assert all(names <= external(kind).keys() for kind, names in published.items())
    assert "hg.0.hg.0.3.0.conv2.bias" in external("bearpaw_hg")
    assert "hg.0.hg.1.3.0.conv2.bias" not in external("bearpaw_hg")  # only the smallest scale has a fourth


def test_reading_changes_neither_the_source_nor_a_random_generator():
    source, state = external("umich_pose_ae"), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in source.items()}
    net = read_published(source).network()
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    net.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    assert equal(source, before)


def test_a_checkpoint_of_two_networks_gives_the_pose_network_unless_the_other_is_asked_for():
    both = {"netD": external("roytseng_discriminator"), "netHg": external("roytseng_hgpose"), "kt": 0.1}
    assert read_published(both).format.name == "roytseng_hgpose"
    assert read_published(both, "roytseng_discriminator").format.name == "roytseng_discriminator"
    assert read_published({"netD": both["netD"]}).format.name == "roytseng_discriminator"


def test_old_weights_and_other_precisions_are_read(tmp_path):
    old = {key: x for key, x in external("bearpaw_hg").items() if not key.endswith("num_batches_tracked")}
    counts = [x for key, x in read_published(old).tensors.items() if key.endswith("num_batches_tracked")]
    assert {int(tensor) for tensor in counts} == {0}
    half = {name: tensor.half() for name, tensor in external("umich_pose_ae").items()}
    torch.save({"state_dict": half}, tmp_path / "old.tar", _use_new_zipfile_serialization=False)
    found = read_published(tmp_path / "old.tar")
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}


# Model weights


@pytest.mark.parametrize("kind", POSE_NETWORKS)
def test_an_imported_pose_network_is_ready_for_use_and_exported_as_it_was(kind, tmp_path):
    source, out = checkpoint(kind, tmp_path / "external.pt"), tmp_path / "models" / "x.pt"
    import_file(source, out)
    weights = load_weights(out)
    task, size = ("hgpose-ae", 512) if kind.endswith("ae") else ("hgpose", 256)
    assert weights.task == task
    assert weights.inference.items() >= {("target", "floor"), ("input_size", size)}
    assert weights.mean == ((0.4404, 0.4440, 0.4327) if kind == "bearpaw_hg" else (0, 0, 0))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        centred = image - torch.tensor(weights.mean)[:, None, None]
        model = load_model(weights, "x.pt", CPU)
        torch.testing.assert_close(model(image), internal_network(kind)(centred), atol=1e-6, rtol=1e-5)
    export_file(out, tmp_path / "again.pt", kind)
    key = EXTERNAL_FORMATS[kind].key
    assert equal(torch.load(tmp_path / "again.pt")[key], torch.load(source)[key])


@pytest.mark.filterwarnings("ignore:overflow")  # of tags, since the weights are far too large
@pytest.mark.parametrize("kind", ["bearpaw_hg", "umich_pose_ae"])
def test_an_imported_pose_network_finds_people(kind, tmp_path):
    import_file(checkpoint(kind, tmp_path / "external.pt"), tmp_path / "x.pt")
    predictor = Predictor.load(tmp_path / "x.pt", "cpu")
    [people] = predictor.predict([np.zeros((60, 80, 3), dtype=np.uint8)])
    assert people.joint_PK2.shape[1:] == (len(predictor.skeleton), 2)


def test_only_pose_networks_of_mpiis_joints_become_model_weights(tmp_path):
    kind = "roytseng_discriminator"
    with user_error(rf"external\.pt: found {kind}, expected a pose network"):
        import_file(checkpoint(kind, tmp_path / "external.pt"), tmp_path / "x.pt")
    net = StackedHourglass(outputs=14, stacks=1, modules=1, features=8, stem=[4, 4, 4])
    written(tmp_path / "external.pt", export_weights(net.state_dict(), "roytseng_hgpose"))
    with user_error("found 14 joints, expected the 16 of MPII"):
        import_file(tmp_path / "external.pt", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_a_network_is_exported_only_under_names_of_its_own_kind(tmp_path):
    strided = StackedHourglass(outputs=16, stacks=1, modules=1, features=8, stem=[4, 8])
    discriminator, hourglass = (internal_network(kind) for kind in ("roytseng_discriminator", "bearpaw_hg"))
    for net, kind in ((strided, "bearpaw_hg"), (discriminator, "bearpaw_hg"), (hourglass, "umich_pose_ae")):
        network = EXTERNAL_FORMATS[kind].network.__name__
        expected = f"expected the tensors of our {network} with a stem of three numbers .{kind}"
        with user_error(expected):
            export_weights(net.state_dict(), kind)
    import_file(checkpoint("bearpaw_hg", tmp_path / "external.pt"), tmp_path / "x.pt")
    with user_error(r"x\.pt: found .*, expected the tensors of our AEHourglass"):
        export_file(tmp_path / "x.pt", tmp_path / "out.pt", "umich_pose_ae")
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    ("made_by", "kind", "found"),
    [("bearpaw_hg", "roytseng_hgpose", "0.4404, 0.444, 0.4327, expected 0, 0, 0")]
    + [("roytseng_hgpose", "bearpaw_hg", "0, 0, 0, expected 0.4404, 0.444, 0.4327")],
)
def test_weights_that_subtract_another_mean_than_a_published_code_are_refused(made_by, kind, found, tmp_path):
    import_file(checkpoint(made_by, tmp_path / "external.pt"), tmp_path / "x.pt")
    with user_error(rf"x\.pt: found mean {found}, which {kind} subtracts"):
        export_file(tmp_path / "x.pt", tmp_path / "out.pt", kind)
    assert not (tmp_path / "out.pt").exists()


def test_no_file_is_written_over_its_source_or_under_the_ending_of_another_format(tmp_path):
    kind, itself = "roytseng_hgpose", r"\.pt: found the source itself, expected another file"
    source, weights = checkpoint(kind, tmp_path / "external.pt"), tmp_path / "x.pt"
    import_file(source, weights)
    before = source.read_bytes(), weights.read_bytes()
    (tmp_path / "link.pt").symlink_to(source)
    for out in (source, tmp_path / "link.pt"):
        with user_error(itself):
            import_file(source, out)
    with user_error(itself):
        export_file(weights, weights, kind)
    with user_error(r"z\.onnx: found the ending '\.onnx', expected \.pt or \.pth or \.safetensors"):
        import_file(source, tmp_path / "z.onnx")
    with user_error(r"z\.safetensors: found the ending '\.safetensors', expected \.pt or \.pth or \.tar"):
        export_file(weights, tmp_path / "z.safetensors", kind)
    assert (source.read_bytes(), weights.read_bytes()) == before


# What cannot be read


def refusal(source: Any, kind: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_published(source, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_a_misshapen_and_a_surplus_tensor_are_named_with_the_file(tmp_path):
    path, prefix, name = tmp_path / "w.pt", "module.model.", "features.0.0.low2.up1.conv.weight"
    complete = {prefix + key: tensor for key, tensor in external("umich_pose_ae").items()}

    def refused(tensors: dict[str, Tensor]) -> str:
        return refusal(written(path, {"state_dict": tensors})).removeprefix(f"{path}: tensor ")

    cut = {key: tensor for key, tensor in complete.items() if key != prefix + name}
    assert refused(cut) == f"{name}: found nothing, expected (11, 11, 3, 3) (umich_pose_ae)"
    bent = complete | {prefix + name: torch.zeros(11, 15, 3, 3)}
    assert refused(bent) == f"{name}: found (11, 15, 3, 3), expected (11, 11, 3, 3) (umich_pose_ae)"
    more = complete | {prefix + "outs.7.conv.weight": torch.zeros(1)}
    assert refused(more) == "outs.7.conv.weight: not part of umich_pose_ae of 1 stacks"
    # These two give the size of the network.
    gone = {key: tensor for key, tensor in complete.items() if key != prefix + "outs.0.conv.weight"}
    assert refused(gone) == "outs.0.conv.weight: found nothing, expected the weights of a convolution"
    low = "features.0.0.low1.conv.weight"
    small = complete | {prefix + low: torch.zeros(2, 8, 3, 3)}
    assert refused(small) == f"{low}: found (2, 8, 3, 3), expected (8, 8, 3, 3) (umich_pose_ae)"


def test_something_else_than_asked_for_is_named(tmp_path):
    expected = "state dict: found bearpaw_hg, expected umich_pose_ae ("
    assert refusal(external("bearpaw_hg"), "umich_pose_ae").startswith(expected)
    assert refusal({}, "resnet").startswith("kind: found 'resnet', expected one of: bearpaw_hg, ")
    contents: list[Any] = [{}, {"state_dict": {}}, [1, 2], {"netHg": 3}]
    for content in contents:
        message = refusal(written(tmp_path / "other.pt", content))
        assert message.startswith(f"{tmp_path / 'other.pt'}: found ")
        assert "expected a published checkpoint (bearpaw_hg, " in message
    import_file(checkpoint("bearpaw_hg", tmp_path / "external.pt"), tmp_path / "x.pt")
    assert "found this project's own model weights, expected a published" in refusal(tmp_path / "x.pt")


def test_another_code_with_the_same_first_layers_is_of_an_unknown_layout(tmp_path):
    tensors = external("umich_pose_ae")
    norms = ("weight", "bias", "running_mean", "running_var")
    normalised = tensors | {
        name.replace("conv.weight", f"bn.{norm}"): torch.zeros(1) for name in tensors for norm in norms
    }
    renamed = {name.replace("features", "hgs").replace("merge", "mix"): tensors[name] for name in tensors}
    for others in (normalised, renamed):
        path = written(tmp_path / "other.pt", {"state_dict": others})
        for kind in (None, "umich_pose_ae"):
            message = refusal(path, kind)
            assert message.startswith(f"{path}: found tensors of an unknown layout (pre.0.conv.weight, ")
            assert message.endswith(f"; these are known: {', '.join(EXTERNAL_FORMATS)}")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_file_is_ever_run(tmp_path):
    tensors = external("umich_pose_ae")
    path = written(tmp_path / "trap.pt", {"state_dict": tensors, "trap": Trap(tmp_path / "made")})
    assert "found a Python object (posix.mkdir)" in refusal(path)
    assert not (tmp_path / "made").exists()
    options = written(tmp_path / "options.pt", {"state_dict": tensors, "args": Namespace(lr=1)})
    assert "found a Python object (argparse.Namespace)" in refusal(options)
