"""Rounds of federated averaging as others run them: scripts for interpreters that have their packages.

They import torch and numpy, one another, and nothing of gradwire.
"""
