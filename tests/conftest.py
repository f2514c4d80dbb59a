"""Settings for the whole suite."""

import os

import pytest
from hypothesis import settings

# Tests say what is true, not how fast: how long an example takes depends on the machine.
settings.register_profile("gradwire", deadline=None, print_blob=True)
settings.load_profile("gradwire")


def pytest_collection_modifyitems(items):
    """Leave out what needs the real data sets where they are not at hand."""
    if "GRADWIRE_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(pytest.mark.skip(reason="GRADWIRE_DATA is not set"))
