"""Labelled examples, and how they are divided among clients.

>>> from gradwire import data
>>> digits = data.load("digits", split="test")
>>> images, labels = digits.batch([0, 1, 2])
>>> parts = data.partition.split("dirichlet:0.5", digits.targets, clients=4, seed=0)
"""

from gradwire.data import partition
from gradwire.data.catalog import load, names, spec_of
from gradwire.data.dataset import Dataset, image_dataset
from gradwire.data.tables import table
from gradwire.data.text import text

__all__ = ["Dataset", "image_dataset", "load", "names", "partition", "spec_of", "table", "text"]
