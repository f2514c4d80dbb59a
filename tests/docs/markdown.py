"""The pages of the documentation, and the code blocks in them.

A block's fence says what it is: a language, and marks behind it.

    python            runs, in one namespace with the page's other blocks
    python fragment   cannot run alone: it is parsed, and what it imports of gradwire is looked up
    python file=NAME  is written to a file, which later blocks of the page find
    python ddp        runs as the one worker of a process group
    sh                each command is understood by the real command line, down to the run that it would start
    sh run            the commands run
    toml file=NAME    is read, and written to a file
    text              is no code
"""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KNOWN = {"python": {"fragment", "file", "ddp"}, "sh": {"run"}, "toml": {"file"}, "text": set()}
"""Language → the marks that it can have."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        where: the page and line, for messages.
        marks: mark → its value, "" where it has none.
    """

    where: str
    language: str
    marks: dict[str, str]
    text: str


def pages() -> list[Path]:
    """README.md and every page of the site."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def named(page: Path) -> str:
    """A page's path in the project."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page; directives of the site (`{name}`) are none."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type not in ("fence", "code_block"):
            continue
        language, *marks = (token.info if token.type == "fence" else "indented").split() or [""]
        if re.fullmatch(r"\{[\w-]+\}", language):
            continue
        where = f"{named(page)}:{token.map[0] + 1}"
        found.append(Block(where, language, dict(mark.partition("=")[::2] for mark in marks), token.content))
    return found
