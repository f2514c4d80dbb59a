"""The documentation site: `make docs` builds it into build/docs, and a warning is an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "gradwire"
copyright = "the gradwire authors, Apache-2.0"
html_title = "gradwire"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"source_edit_link": "", "footer_icons": []}
templates_path: list[str] = []
exclude_patterns = ["_ext"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "generated",
    "drawings",
    "plain_docstrings",
    "standins",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
default_role = "code"
