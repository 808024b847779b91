"""Sphinx settings. Build with ``python -m sphinx -W --keep-going -b html docs build/docs``."""

from importlib.metadata import version as installed_version

project = "hotloops"
author = "hotloops developers"
copyright = "2026, hotloops developers"
release = installed_version("hotloops")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
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
