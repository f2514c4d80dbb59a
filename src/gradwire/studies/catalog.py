"""Studies by spec."""

from pathlib import Path

from gradwire.registry import STUDIES
from gradwire.studies import own
from gradwire.studies.grid import Study


def find(spec: str | Study) -> Study:
    """The study with this spec, such as `compression:epochs=2,seeds=3`, or the one in this TOML file.

    Raises:
        GradwireError: an unknown study or parameter, or a file that does not hold a grid.
    """
    if isinstance(spec, str) and spec.endswith(".toml"):
        return own.read(Path(spec))
    study: Study = STUDIES.parse(spec)
    return study
