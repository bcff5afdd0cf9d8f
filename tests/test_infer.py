"""Pictures in, people out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pose.checkpoint import save_weights
from pose.data.lsp_mpii import LspMpii
from pose.errors import UserError
from pose.infer import Predictor, as_device, find_people, outputs
from pose.params import Params
from pose.task import build_task


@pytest.fixture
def weights(params: Params, tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_weights(path, params, "hgpose", build_task(params, "hgpose", device=torch.device("cpu")).net)
    return path


def test_the_flip_test_of_a_symmetric_network_changes_nothing(params: Params):
    class Symmetric(torch.nn.Module):
        def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
            grey = torch.nn.functional.avg_pool2d(image_B3HW.mean(dim=1, keepdim=True), 4)
            return grey.expand(-1, 16, -1, -1)[:, None]  # every joint's map is the picture itself

    task = build_task(params, "hgpose", device=torch.device("cpu"))
    task.net = Symmetric()
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(outputs(task, image, flip=True), outputs(task, image, flip=False), atol=1e-6)


def test_a_box_moves_the_answer_with_the_picture(weights: Path):
    predictor = Predictor.load(weights, "cpu")
    image = np.random.default_rng(0).integers(0, 255, (100, 80, 3), dtype=np.uint8)
    padded = np.pad(image, ((30, 10), (20, 40), (0, 0)))
    [alone] = predictor.people([image], [(10, 10, 60, 80)])
    [moved] = predictor.people([padded], [(30, 40, 60, 80)])
    assert len(alone) == 1
    assert np.allclose(alone.joint_PK2 + [20, 30], moved.joint_PK2, atol=4)


def test_joints_lie_near_the_crop_and_scores_are_numbers(weights: Path):
    predictor = Predictor.load(weights, "cpu")
    [found] = predictor.people([np.zeros((120, 90, 3), dtype=np.uint8)])
    assert found.joint_PK2.shape == (1, 16, 2)
    assert np.isfinite(found.joint_PK2).all()
    assert np.isfinite(found.score_PK).all()
    assert predictor.skeleton.name == "mpii"


def test_the_batch_size_changes_no_answer(params: Params, people: LspMpii):
    task = build_task(params, "hgpose", device=torch.device("cpu"))
    task.net.eval()
    rows = people.rows("validation")
    one, many = (find_people(task, people, rows, batch=batch, flip=False) for batch in (1, 7))
    assert np.allclose([p.joint_PK2 for p in one], [p.joint_PK2 for p in many], atol=1e-6)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), dtype=np.uint8)])
def test_what_is_no_rgb_picture_is_refused(weights: Path, image: np.ndarray):
    with pytest.raises(UserError, match="expected uint8 of shape"):
        Predictor.load(weights, "cpu").people([image])


def test_an_empty_box_is_refused(weights: Path):
    with pytest.raises(UserError, match="box: found 0"):
        Predictor.load(weights, "cpu").people([np.zeros((9, 9, 3), dtype=np.uint8)], [(1, 1, 0, 4)])


def test_an_unknown_device_is_named():
    with pytest.raises(UserError, match="device: found 'abacus'"):
        as_device("abacus")
