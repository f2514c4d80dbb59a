"""Settings for the whole suite."""

import os
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# Tests say what is true, not how fast: how long an example takes depends on the machine. The suite tries the same
# examples each time; `make fuzz` looks for others.
settings.register_profile("gradwire", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("fuzz", deadline=None, print_blob=True, max_examples=500)
# Whether a fault is caught, not by which example it is told shortest (tests/mutate.py).
settings.register_profile("mutants", settings.get_profile("gradwire"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gradwire"))


def pytest_collection_modifyitems(items):
    """Leave out what needs the real data sets where they are not at hand."""
    if "GRADWIRE_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(pytest.mark.skip(reason="GRADWIRE_DATA is not set"))


OUTSIDE = Path(__file__).parents[1] / "examples" / "outside"
MODULES = ("terngrad", "tag", "ternary", "shared_folder", "series", "waves")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example package as an installer leaves it: its modules, and its entry points beside them."""
    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    site, name = tmp_path / "site", f"gradwire_outside-{project['version']}.dist-info"
    (site / name).mkdir(parents=True)
    (tmp_path / "carried").mkdir()
    (site / name / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in known.items())
        for group, known in project["entry-points"].items()
    )
    (site / name / "entry_points.txt").write_text(points)
    for module in MODULES:
        (site / f"{module}.py").write_text((OUTSIDE / f"{module}.py").read_text())
    monkeypatch.syspath_prepend(site)
    yield
    for module in MODULES:
        sys.modules.pop(module, None)
