"""Steps on a device without numbers (`meta`): what a GPU would wait for, or find on the host, is an error."""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from helpers import COCO, MPII, ROOT
from torch.utils._python_dispatch import TorchDispatchMode

from pose.data.batch import Batch, Inputs, MultiTargets, SingleTargets
from pose.experiments.presets import apply_preset
from pose.keypoints.geometry import STRIDE
from pose.params import Params, load_params
from pose.tasks.task import Task, build_task

META = torch.device("meta")
# Calls of a step at the published sizes, one for each kernel or view. A change that needs more says why here.
MOST_CALLS = {"hgpose": 3037, "advpose": 4399, "hgpose-ae": 858, "advpose-ae": 2213}


class CountCalls(TorchDispatchMode):
    """Counts calls by operator. A saved output is detached only where a mode looks on: not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.detach.default:
            self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """The parameters of `pose preset paper`."""
    path = tmp_path_factory.mktemp("paper") / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    apply_preset("paper", path, ROOT / "presets")
    params = load_params(path)
    train = params.train.model_copy(update={"precision": "float32", "compile": False})
    return params.model_copy(update={"train": train})


def batch_of(params: Params, name: str, images: int) -> Batch:
    """Images and targets without numbers."""
    kind, size = params.task(name).problem, params.problem(name).input_size
    cells, joints = size // STRIDE, len(MPII if kind == "single" else COCO)
    inputs = Inputs((torch.empty(images, 3, size, size, device=META),), torch.eye(2, 3).expand(images, 2, 3))
    heatmap_BKhw = torch.empty(images, joints, cells, cells, device=META)
    if kind == "single":
        return Batch(inputs, SingleTargets(heatmap_BKhw, torch.empty(images, joints, device=META)))
    cell_BPK = torch.empty(images, 5, joints, dtype=torch.int64, device=META)
    mask_Bhw = torch.empty(images, cells, cells, device=META)
    return Batch(inputs, MultiTargets(heatmap_BKhw, mask_Bhw, cell_BPK))


@pytest.mark.slow
@pytest.mark.parametrize("name", MOST_CALLS)
def test_no_step_makes_the_device_wait_and_its_calls_are_counted(paper, name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no device `meta`
    skeleton = {"single": MPII, "multi": COCO}[paper.task(name).problem]
    task: Task = build_task(paper, name, skeleton=skeleton, device=META)
    task.net.train()
    batch = batch_of(paper, name, images=2)
    for _ in range(2):  # the optimizers' state is made in the first
        with CountCalls() as count:
            terms = task.step(batch, done=60, steps=100)
    assert {term.device for term in terms.values()} == {META}
    assert {weight.device for weight in task.net.state_dict().values()} == {META}
    assert sum(count.calls.values()) <= MOST_CALLS[name], count.calls.most_common(30)
