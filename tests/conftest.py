"""Settings for the whole suite."""

import os

import pytest
from hypothesis import settings

# Tests say what is true, not how fast: how long an example takes depends on the machine. The suite tries the same
# examples each time; `make fuzz` looks for others.
settings.register_profile("gradwire", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("fuzz", deadline=None, print_blob=True, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gradwire"))


def pytest_collection_modifyitems(items):
    """Leave out what needs the real data sets where they are not at hand."""
    if "GRADWIRE_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(pytest.mark.skip(reason="GRADWIRE_DATA is not set"))
