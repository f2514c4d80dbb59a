"""`python -m gradwire`, and so `torchrun -m gradwire`: the command line."""

from gradwire.cli import main

main()
