"""The studies that gradwire knows by name, one file each."""

from collections.abc import Mapping
from pathlib import Path

from gradwire import spec_syntax
from gradwire.studies import own
from gradwire.studies.compression import Compression
from gradwire.studies.federated import Federated
from gradwire.studies.grid import Study
from gradwire.studies.secure_accuracy import SecureAccuracy
from gradwire.studies.secure_sums import SecureSums
from gradwire.studies.trust_membership import TrustMembership

_ALL = (Compression, Federated, SecureAccuracy, SecureSums, TrustMembership)
STUDIES: Mapping[str, type[Study]] = {study.name: study for study in _ALL}


def find(spec: str) -> Study:
    """The study with this spec, such as `compression:epochs=2,seeds=3`, or the one in this TOML file.

    Raises:
        GradwireError: an unknown study or parameter, or a file that does not hold a grid.
    """
    return own.read(Path(spec)) if spec.endswith(".toml") else spec_syntax.read("study", spec, STUDIES)
