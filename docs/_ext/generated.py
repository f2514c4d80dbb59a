"""`{generated} module.function argument …`: Markdown that a function of this folder makes when the site is built."""

from importlib import import_module

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Generated(SphinxDirective):
    """What the function returns, as if it stood in the page."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Call the function and parse its text."""
        place, *arguments = self.arguments[0].split()
        module, _, name = place.rpartition(".")
        text = getattr(import_module(module), name)(*arguments)
        node = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), place), 0, node)
        return node.children


def setup(app) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
