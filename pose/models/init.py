"""Initial weights from a generator of one's own, since PyTorch's layers draw theirs from the global one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWING = (
    "uniform_",
    "normal_",
)  # what names of `torch.nn.init` end in that draw: uniform_, kaiming_uniform_, xavier_normal_ ...


class InitialWeights(TorchFunctionMode):
    """Context in which layers draw their initial weights from a generator of this seed.

    The numbers that `torch.manual_seed` would bring.

    Only in the thread that enters it, and no generator of anybody else's is read or moved.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Hand the generator to what would draw; anything else is called as it is."""
        given = dict(kwargs or {})
        if function.__name__.endswith(DRAWING):
            given["generator"] = self._generator
        return function(*args, **given)
