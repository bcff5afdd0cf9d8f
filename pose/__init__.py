"""Reproducible 2D human pose estimation: stacked hourglasses, associative embedding, self-adversarial training."""

__version__ = "0.1.0"
