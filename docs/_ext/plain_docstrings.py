"""Docstrings as plain text: what stands in them is meant as it is, but for `code` and Google's sections."""

import re


def _plain(app, what, name, obj, options, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app) -> dict[str, bool]:
    """Escape before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", _plain, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
