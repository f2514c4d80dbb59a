"""Formulas as MathML, which browsers set by themselves: no script, no picture, nothing fetched from elsewhere."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def _markup(writer, node, block: bool) -> None:
    try:
        markup = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        raise ExtensionError(f"{node.source}:{node.line}: no MathML of {node.astext()!r}: {error}") from error
    writer.body.append(f'<div class="formula">{markup}</div>' if block else markup)
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    """Name the renderer, which `html_math_renderer` then is."""
    app.add_html_math_renderer(
        "mathml",
        (lambda writer, node: _markup(writer, node, False), None),
        (lambda writer, node: _markup(writer, node, True), None),
    )
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
