"""Data sets by name: those that gradwire knows, folders of images, and the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradwire import spec_syntax
from gradwire.data.dataset import Dataset
from gradwire.data.splits import SPLITS
from gradwire.errors import GradwireError, unknown
from gradwire.registry import DATA

Loader = Callable[..., Dataset]
"""(split, limit) → a data set of the first `limit` images of this split, all of them where it is None."""

CUTS = {part: spec_syntax.Parameter(int | None, None) for part in SPLITS}
"""What a spec may give behind a name: how many images of a split to take."""


def names() -> tuple[str, ...]:
    """List the data sets that `load` knows by name."""
    return DATA.names()


def spec_of(source: str | Path | Loader) -> str:
    """What `load` takes in another process: a name or folder as it is, the `module:function` of a function."""
    return DATA.spec(source) if callable(source) else str(source)


def load(source: str | Path | Loader, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of a data set.

    Args:
        source: one of `names()`, a folder of class folders with images (`gradwire.data.folder`), or a function
            (split, limit) → `Dataset` or its `package.module:function`. A name goes before a folder of that name;
            write `./digits` for the latter. After a name, `:train=10000,test=2000` takes only so many images of a
            split, the first ones, and other keys are given to the function.
        split: `train` or `test`.
        limit: take the first so many images only (fewer where there are fewer) and decode no others.

    Raises:
        GradwireError: an unknown name or split, a limit below 1, or data that cannot be had or are not as they must be.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if limit is not None and limit < 1:
        raise GradwireError(f"limit is {limit}; it must be 1 or more")
    if callable(source):
        return _loaded(source, f"data {spec_of(source)!r}", split, limit, {})
    name = str(source)
    if ":" not in name and name not in DATA:
        if Path(name).is_dir():
            from gradwire.data.folder import load_folder  # brings PIL

            return load_folder(Path(name), split, limit)
        raise unknown("data", name, (*names(), "or a folder of class folders with images"))
    loader, known, rest = DATA.find(name)
    own = {}
    if rest and known not in DATA.builtin:
        own = {key: p for key, p in spec_syntax.parameters(loader).items() if key not in ("split", "limit")}
    values: dict[str, Any] = spec_syntax.read(f"data {name!r}", known, rest, CUTS | own)
    most = {part: values.pop(part) for part in SPLITS if part in values}.get(split)
    if most is not None and most < 1:
        raise GradwireError(f"data {name!r}: {split} is {most}; it must be 1 or more")
    limit = min((each for each in (most, limit) if each is not None), default=None)
    return _loaded(loader, f"data {name!r}", split, limit, values)


def _loaded(loader: Loader, what: str, split: str, limit: int | None, further: dict[str, object]) -> Dataset:
    """What a loader returns; GradwireError refuses one that fails or returns something else."""
    try:
        found = loader(split=split, limit=limit, **further)
    except GradwireError:
        raise
    except Exception as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GradwireError(f"{what} failed when loaded: {reason}") from error
    if not isinstance(found, Dataset):
        raise GradwireError(f"{what} gave a {type(found).__name__}; it must give a gradwire.data.Dataset")
    return found
