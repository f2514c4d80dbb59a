"""Data sets by name: those that gradwire knows, folders of images, tables, and the user's own."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gradwire import spec_syntax
from gradwire.data.dataset import Dataset
from gradwire.data.frames import is_table
from gradwire.data.splits import SPLITS
from gradwire.data.tables import TableSource, load_table
from gradwire.data.text import load_text
from gradwire.errors import GradwireError, unknown
from gradwire.registry import DATA

Loader = Callable[..., Dataset]
"""(split, limit) → a data set of the first `limit` examples of this split, all of them where it is None."""

CUTS = {part: spec_syntax.Parameter(int | None, None) for part in SPLITS}
"""What a spec may give behind a name: how many examples of a split to take."""


def names() -> tuple[str, ...]:
    """List the data sets that `load` knows by name."""
    return DATA.names()


def spec_of(source: str | Path | Loader) -> str:
    """What `load` takes in another process: a name or folder as it is, the `module:function` of a function.

    A table in memory is found by the name that it has at the top of a module that is loaded.

    Raises:
        GradwireError: a function or table that no module has.
    """
    if not isinstance(source, TableSource):
        return DATA.spec(source) if callable(source) else str(source)
    for module in list(sys.modules.values()):
        for name, held in list(getattr(module, "__dict__", {}).items()):
            if held is source:
                return f"{module.__name__}:{name}"
    raise GradwireError(f"data {source.name!r} is a table that no module has; define it at the top of a module")


def load(source: str | Path | Loader, split: str = "test", limit: int | None = None) -> Dataset:
    """Load one split of a data set.

    Args:
        source: one of `names()`, a folder of class folders with images (`gradwire.data.folder`), a table
            (`people.csv:target=income`; see `gradwire.data.tables.load_table`) or its column of text
            (`reviews.csv:text=review,target=stars`; see `gradwire.data.text.TextSource`), or a function (split, limit)
            → `Dataset` or its `package.module:function`. A name goes before a folder of that name; write `./digits` for
            the latter. After a name, `:train=10000,test=2000` takes only so many examples of a split, the first ones,
            and other keys are given to the function.
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
        return _loaded(source, f"data {_called(source)!r}", split, limit, {})
    name = str(source)
    path, _, behind = name.partition(":")
    # `photos:make` is a module's function, even where there is a folder of its name.
    is_path = path and path not in DATA and (not behind or "=" in behind.partition(":")[0])
    if is_path and (Path(path).is_dir() or is_table(Path(path))):
        loader, known, rest = _at(Path(path), behind), path, behind
    elif ":" not in name and name not in DATA:
        raise unknown("data", name, (*names(), "a folder of class folders with images, or a CSV or Parquet file"))
    else:
        loader, known, rest = DATA.find(name)
    own = {key: p for key, p in spec_syntax.parameters(loader).items() if key not in ("split", "limit")} if rest else {}
    values: dict[str, Any] = spec_syntax.read(f"data {name!r}", known, rest, CUTS | own)
    most = {part: values.pop(part) for part in SPLITS if part in values}.get(split)
    if most is not None and most < 1:
        raise GradwireError(f"data {name!r}: {split} is {most}; it must be 1 or more")
    limit = min((each for each in (most, limit) if each is not None), default=None)
    return _loaded(loader, f"data {name!r}", split, limit, values)


def _at(path: Path, keys: str) -> Loader:
    """The loader of a table, of a table's column of text where one is named, or of a folder of images."""
    if is_table(path):
        return partial(load_text if ",text=" in f",{keys}" else load_table, path)
    from gradwire.data.folder import load_folder  # brings PIL

    return partial(load_folder, path)


def _called(source: Loader) -> str:
    """What a function is called in messages."""
    try:
        return spec_of(source)
    except GradwireError:
        return str(getattr(source, "name", source))


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
