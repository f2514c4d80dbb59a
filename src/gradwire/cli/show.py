"""What commands share: options, and what they show while they work and when they are done."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from gradwire import progress
from gradwire.cli.source import Expression, describe
from gradwire.errors import GradwireError

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table


F = TypeVar("F", bound=Callable[..., None])


USUAL = "[default: lenet for photographs, convnet for other images, mlp:hidden=100 for tables, bert or gpt2 for text]"
DATA = "Data set, folder of images, or table (CSV, Parquet), which needs a target."
TARGET = "Of a table: the column to be told, as --data FILE:target=COLUMN says it. Repeatable."
SHARED = {
    "target": click.option("--target", multiple=True, metavar="COLUMN", help=TARGET),
    "model": click.option("--model", default="", metavar="NAME|PACKAGE.MODULE:FACTORY", help=USUAL),
    "seed": click.option("--seed", default=0, show_default=True, help="Decides everything that is random."),
    "device": click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …"),
    "out": click.option("--out", metavar="DIR", help="Folder to write. [default: runs/<command>-<time>]"),
}


def settings_options(place: str, omit: Sequence[str] = (), **words: str) -> Callable[[F], F]:
    """Options for what decides a run: `SHARED`, then one for each field of a settings dataclass.

    A field of several values, `schemes`, has the option `--scheme`, which can be repeated.

    Args:
        place: `module:Class`, read as source.
        omit: fields that get no option here.
        words: the help of fields whose line in the class's docstring does not suit the command line.
    """
    about = describe(place)
    told = {name: text[:1].upper() + text[1:].replace("`", "") for name, text in about.attributes.items()} | words
    fields = [
        _option(name, default, about.hints[name], told.get(name, ""))
        for name, default in about.parameters.items()
        if name not in ("data", *SHARED, *omit)
    ]

    def add(function: F) -> F:
        @wraps(function)
        def told(*, data: str, target: tuple[str, ...], **options: Any) -> None:
            function(data=with_target(data, target), **options)

        usual = about.parameters.get("data", "digits")
        data = click.option("--data", default=usual, show_default=True, metavar="NAME|DIR|FILE", help=DATA)
        for option in reversed([data, *SHARED.values(), *fields]):
            told = option(told)
        return cast(F, told)

    return add


def with_target(data: str, target: Sequence[str]) -> str:
    """The spec of data with these target columns, `people.csv:target=income`; as it is where none are given.

    Raises:
        GradwireError: a target in the spec already, or a column that no spec can name.
    """
    if not target:
        return data
    last = data.rpartition(":")[2]
    if re.search(r"(^|,)target=", last):
        raise GradwireError(f"--target {target[0]}: --data {data} names a target already; give it once")
    if odd := [name for name in target if set(name) & set(",|")]:
        raise GradwireError(f"--target {odd[0]!r} has a comma or bar in its name; rename the column")
    return f"{data}{',' if '=' in last else ':'}target={'|'.join(target)}"


def _option(name: str, default: object, hint: str, words: str) -> Callable[[F], F]:
    types = re.findall(r"\w+", hint)
    if "bool" in types:
        return click.option(f"--{name.replace('_', '-')}", is_flag=True, help=words)
    several = "tuple" in types
    shown = default not in (None, "") and "[default:" not in words
    return click.option(
        f"--{(name.removesuffix('s') if several else name).replace('_', '-')}",
        name,
        type=int if "int" in types else float if "float" in types else str,
        multiple=several,
        default=None if isinstance(default, Expression) else default,
        show_default=shown,
        metavar="SPEC" if name in ("scheme", "schemes", "attacks") else None,
        help=f"{words} Repeatable." if several else words,
    )


def given(context: click.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def only(context: click.Context, option: str, allowed: Sequence[str]) -> None:
    """Refuse options that do not go with another one.

    Raises:
        GradwireError: naming the first that was given and is not allowed.
    """
    for parameter in context.command.params:
        if given(context, parameter.name or "") and parameter.name not in allowed:
            raise GradwireError(f"{parameter.opts[-1]} does not go with {option}; leave it out")


@contextmanager
def progress_bar() -> Iterator[progress.Progress]:
    """A bar a stage, with the time left; yields the function that moves it: (stage, done, total)."""
    from rich import progress as bar
    from rich.console import Console

    columns = (
        bar.TextColumn("{task.description:<10}"),
        bar.BarColumn(),
        bar.TaskProgressColumn(),
        bar.TimeElapsedColumn(),
        bar.TextColumn("left"),
        bar.TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with bar.Progress(*columns, console=Console(stderr=True)) as bars:

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield move


def figures(title: str, *headings: str, words: Sequence[str] = ()) -> "Table":
    """An empty table of figures, set to the right; columns that hold `words` are set to the left."""
    from rich.table import Table

    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in words else "right")
    return table


def show(*shown: object) -> None:
    """Print tables and lines of text, set for the terminal."""
    from rich.console import Console

    console = Console()
    for each in shown:
        console.print(each)


def write_csv(path: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the file that --out names.

    Raises:
        GradwireError: it cannot be written.
    """
    try:
        with Path(path).open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    except OSError as error:
        raise GradwireError(f"--out {path} cannot be written: {error.strerror}") from None


def outcome(folder: Path) -> None:
    """Show what a run found, its table and what was not tried; write its report, and name it."""
    from gradwire import report

    written = report.write(folder)
    show(*report.printed(folder))
    click.echo(f"report: {written}")


def answers(folder: Path) -> None:
    """Name the pictures that an attack on a recorded step came to, and show its texts."""
    for picture in sorted(folder.glob("*.png")):
        click.echo(f"picture: {picture}")
    for text in sorted(folder.glob("*.txt")):
        click.echo(f"{text}:\n{text.read_text(encoding='utf-8')}")
