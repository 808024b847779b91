"""Sphinx settings. Build with ``python -m sphinx -W --keep-going -b html docs build/docs``."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

sys.path.insert(0, str(Path(__file__).parent))
from _coverage import CoverageTable

project = "hotloops"
author = "hotloops developers"
copyright = "2026, hotloops developers"
release = installed_version("hotloops")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
default_role = "py:obj"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_static_path = ["_static"]
html_math_renderer = "mathml"
html_title = f"hotloops {release}"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#b3410e",
        "color-brand-content": "#b3410e",
    },
    "dark_css_variables": {
        "color-brand-primary": "#ff9d5c",
        "color-brand-content": "#ff9d5c",
    },
}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _inline_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block_math(translator: Any, node: nodes.math_block) -> None:
    formula = tex2mathml(node.astext()).replace("<math ", '<math display="block" ', 1)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Write formulas as MathML, which every browser shows without a script from elsewhere.

    And measure the tables of coverage where the pages ask for them.
    """
    app.add_directive("coverage-table", CoverageTable)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
