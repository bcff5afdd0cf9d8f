"""What a run is told to while it goes on, beside its history files: MLflow (`pose.tracking`), nobody, or a log of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Record(Protocol):
    """What is told of a run while it goes on; `pose.tracking.Tracker` is one. Nothing that goes wrong in it may end the training."""

    @property
    def run_id(self) -> str | None:
        """By which a later start goes on with it; None if there is none yet."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values by name at one step."""

    def flush(self) -> None:
        """Hand on what waits."""

    def unsent(self) -> list[Any]:
        """What still waits, as plain values: kept in the resume state."""

    def tag(self, **tags: str) -> None:
        """Words by name."""

    def model(self, weights: str | Path) -> None:
        """Weights for use."""

    def figure(self, figure: Figure, name: str) -> None:
        """A figure, and its file's name."""

    def __enter__(self) -> Record: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Unrecorded:
    """Nothing is told of the run beside its history files."""

    run_id: str | None = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def unsent(self) -> list[Any]:
        """Nothing waits."""
        return []

    def tag(self, **tags: str) -> None:
        """Nothing."""

    def model(self, weights: str | Path) -> None:
        """Nothing."""

    def figure(self, figure: Figure, name: str) -> None:
        """Nothing."""

    def __enter__(self) -> Unrecorded:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing."""
