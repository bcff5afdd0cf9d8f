"""Stage `train@TASK`: prepared data -> model weights and history."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.training.launch import train_task as main

if __name__ == "__main__":
    run_stage(main)
