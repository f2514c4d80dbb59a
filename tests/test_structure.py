"""Imports go down the list of docs/structure.md, never up and never to the side; the ground is one room."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "gradwire"


def floors() -> list[set[str]]:
    """The rooms of each row of the table, from the roof to the ground."""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "structure.md").read_text(), re.MULTILINE)
    return [{name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`(.*?)`", row)} for row in rows]


def imports(path: Path) -> Iterator[str]:
    """The rooms of gradwire that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        if names == ["gradwire"]:
            names = [f"gradwire.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name and name.startswith("gradwire."))


def test_every_room_is_on_the_list() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith(("_", "py."))}
    assert rooms == set().union(*floors())


def test_imports_go_down() -> None:
    *upper, ground = floors()
    height = {room: number for number, rooms in enumerate([ground, *reversed(upper)]) for room in rooms}
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {other}"
        for room in height.keys() - ground
        for path in ([*(PACKAGE / room).rglob("*.py")] or [PACKAGE / f"{room}.py"])
        for other in imports(path)
        if other != room and height[other] >= height[room]
    }
    wrong |= {
        f"{room} imports {other}" for room in ground for other in imports(PACKAGE / f"{room}.py") if height[other]
    }
    assert not wrong


def modules():
    """Every module of the package with its syntax tree."""
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_no_two_public_classes_share_a_name():
    places = {}
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert {name: several for name, several in places.items() if len(several) > 1} == {}


def test_no_file_is_tiny_but_a_scheme_an_attack_or_a_model():
    free = ("schemes/", "attacks/", "models/")
    for path in modules():
        lines = len((PACKAGE / path).read_text().splitlines())
        assert lines >= 25 or path.name == "__init__.py" or str(path).startswith(free), f"{path} has {lines} lines"
