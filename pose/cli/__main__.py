"""`python -m pose.cli`, as torchrun starts it."""

from pose.cli import main

main()
