"""The data sets that gradwire knows by name, and the door to all of them."""

from dataclasses import dataclass
from pathlib import Path

from gradwire import spec_syntax
from gradwire.data.dataset import Dataset
from gradwire.data.folder import load_folder
from gradwire.data.hub import SOURCES, load_hub
from gradwire.data.splits import SPLITS, load_digits
from gradwire.errors import GradwireError, unknown


def names() -> tuple[str, ...]:
    """List the data sets that `load` knows by name."""
    return ("digits", *SOURCES)


def load(name_or_dir: str | Path, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of a data set.

    Args:
        name_or_dir: one of `names()`, or a folder of class folders with images (`gradwire.data.folder`). A name goes
            before a folder of that name; write `./digits` for the latter. After a name, `:train=10000,test=2000` takes
            only so many images of a split, the first ones.
        split: `train` or `test`.
        limit: take the first so many images only (fewer where there are fewer) and decode no others.

    Raises:
        GradwireError: an unknown name or split, a limit below 1, or data that cannot be had or are not as they must be.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if limit is not None and limit < 1:
        raise GradwireError(f"limit is {limit}; it must be 1 or more")
    name = str(name_or_dir)
    if name.partition(":")[0] in names():
        name, limit = _cut(name, split, limit)
    if name == "digits":
        return load_digits(split, limit)
    if name in SOURCES:
        return load_hub(name, split, limit)
    if Path(name).is_dir():
        return load_folder(Path(name), split, limit)
    raise unknown("data", name, (*names(), "or a folder of class folders with images"))


@dataclass(frozen=True)
class _Cut:
    train: int | None = None
    test: int | None = None


def _cut(spec: str, split: str, limit: int | None) -> tuple[str, int | None]:
    """The name before the colon, and the smaller of the two limits for this split."""
    name = spec.partition(":")[0]
    cut = getattr(spec_syntax.read("data", spec, {name: _Cut}), split)
    if cut is not None and cut < 1:
        raise GradwireError(f"data {spec!r}: {split} is {cut}; it must be 1 or more")
    return name, min((each for each in (cut, limit) if each is not None), default=None)
