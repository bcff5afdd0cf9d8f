"""Initial weights from a seed, without the global generator that PyTorch's layers draw from."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# How the names of functions in `torch.nn.init` end that draw: kaiming_uniform_, xavier_normal_ ...
ENDINGS = ("uniform_", "normal_")
OTHERS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "bernoulli_", "random_"}


class InitialWeights(TorchFunctionMode):
    """Context in which layers draw their initial weights from a generator of their own, with this seed.

    They are the numbers that `torch.manual_seed` would give. Global generators and other threads are not
    affected.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Give the generator to functions that draw."""
        given = dict(kwargs or {})
        if function.__name__.endswith(ENDINGS) or function.__name__ in OTHERS:
            given["generator"] = self._generator
        return function(*args, **given)
