"""Every code block of README.md and of the site runs, or is understood by what would run it."""

import ast
import re
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch.distributed as dist

from gradwire.cli import main
from tests.distributed.workers import environment, free_port
from tests.docs.commands import commands, understand
from tests.docs.markdown import KNOWN, ROOT, Block, blocks, named, pages
from tests.docs.world import furnish, people

WITH_CODE = [page for page in pages() if blocks(page)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a user's files in it; the project's own modules can be named."""
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_block_says_what_it_is(page):
    for block in blocks(page):
        assert block.language in KNOWN, f"{block.where} is {block.language!r}; a block is one of {', '.join(KNOWN)}"
        odd = block.marks.keys() - KNOWN[block.language]
        assert not odd, f"{block.where} is marked {odd}"


@pytest.mark.parametrize("page", WITH_CODE, ids=named)
def test_blocks(page, here, monkeypatch, capsys):
    namespace = {"__name__": f"blocks of {named(page)}", "frame": people(120)}
    for block in blocks(page):
        with monkeypatch.context() as patch:
            try:
                _try(block, namespace, here, patch)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{block.where}: {type(error).__name__}: {error}") from error
    if page == ROOT / "README.md":
        shown = re.search(r"^(\d+) bytes sent, SSIM (\d\.\d\d)$", capsys.readouterr().out, re.MULTILINE)
        assert int(shown[1]) < 10_000
        assert float(shown[2]) > 0.9


def _try(block: Block, namespace: dict, folder: Path, monkeypatch) -> None:
    """Run a block, or do with it what its marks say."""
    if name := block.marks.get("file"):
        (folder / name).write_text(block.text)
    if block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "python":
        tree = ast.parse(block.text, block.where)
        if "fragment" in block.marks:
            _check_imports(tree)
        elif "ddp" in block.marks:
            _run_as_worker(block, namespace, monkeypatch)
        elif not block.marks:
            exec(compile(tree, block.where, "exec"), namespace)
    elif block.language == "sh":
        for words in commands(block.text):
            if "run" not in block.marks:
                understand(words, monkeypatch)
                continue
            assert words[0] == "gradwire", words
            main(words[1:])


def _run_as_worker(block: Block, namespace: dict, monkeypatch) -> None:
    """Run a block as torchrun would run the only worker."""
    for name, value in environment(0, 1, free_port()).items():
        monkeypatch.setenv(name, value)
    try:
        exec(compile(block.text, block.where, "exec"), namespace)
    except BaseException:
        if dist.is_initialized():
            dist.destroy_process_group()
        raise


def _check_imports(tree: ast.Module) -> None:
    """What a fragment imports of gradwire is there, whatever else is not installed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gradwire":
            outer, *inner = node.module.split(".")
            path = Path(find_spec(outer).origin).parent.joinpath(*inner)
            source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
            for alias in node.names:
                assert re.search(rf"\b{alias.name}\b", source), f"{node.module} has no {alias.name}"
