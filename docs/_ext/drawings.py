"""`{drawing} FILE.svg`: a drawing in the page itself, so that it takes the page's colours, light or dark."""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Drawing(SphinxDirective):
    """An SVG file beside the page; its `<title>` is what a screen reader says."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The file's text as it is."""
        path = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(path))
        markup = path.read_text(encoding="utf-8")
        return [nodes.raw("", f'<figure class="drawing">{markup}</figure>', format="html")]


def setup(app) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
