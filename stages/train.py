"""Stage `train@TASK`: prepared data -> model weights and history."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.training.launch import train_task


def main(task: str) -> None:
    """Train a task with the parameters of this workspace, as several processes if they say so."""
    train_task(task)


if __name__ == "__main__":
    run_stage(main)
