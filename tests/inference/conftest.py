"""Untrained weights, and exported networks, which take a while to make."""

from pathlib import Path

import pytest
from helpers import (
    COCO,
    MPII,
    MadeOnce,
    one_stack,
    write_active_weights,
    write_given_weights,
    write_initial_weights,
)

from pose.inference.export import export
from pose.models.weights import load_weights, save_weights
from pose.params import Params


@pytest.fixture(scope="session")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network of one person."""
    return write_initial_weights(params, "hgpose", tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="session")
def multi_weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that sees several people."""
    return write_active_weights(params, tmp_path_factory.mktemp("multi"))


@pytest.fixture(scope="session")
def exported_single(params: Params, made_once: MadeOnce) -> Path:
    """Weights of one person, and beside them what they are exported to."""

    def write(folder: Path) -> None:
        given = {"joints": MPII.joints, "mean": (0.4, 0.3, 0.2)}
        export(write_given_weights(one_stack(params), "hgpose", folder, **given), "onnx")

    return made_once("exported single", write) / "given.pt"


@pytest.fixture(scope="session")
def exported_multi(params: Params, made_once: MadeOnce) -> Path:
    """The same of several people, whose tags differ: of equal ones, the last bits would decide who is who."""

    def write(folder: Path) -> None:
        path = write_active_weights(params, folder)
        weights = load_weights(path)
        head = sorted(name for name in weights.tensors if name.startswith("heads."))[-1].rpartition(".")[0]
        tags = slice(len(COCO), 2 * len(COCO))
        weights.tensors[f"{head}.weight"][tags] *= 300
        save_weights(path, weights)
        export(path, "onnx")

    return made_once("exported multi", write) / "last.pt"
