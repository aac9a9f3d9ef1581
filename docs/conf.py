"""Sphinx: `python -m sphinx -W --keep-going -b html docs docs/_build/html`. Needs no network."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import outside

import jopt

project = "jopt"
author = "The jopt authors"
copyright = "The jopt authors"
release = version = jopt.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_sitemap",
    "jopt_docs",
]
exclude_patterns = ["_build"]
# Where the site stands, for the sitemap and canonical links; without, where one reads it at home.
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "http://localhost:8000/")
sitemap_url_scheme = "{link}"
sitemap_show_lastmod = False
intersphinx_mapping = outside.mapping(Path(__file__).parent / "_build" / "inventories")
highlight_language = "none"
html_theme = "furo"
html_title = f"jopt {version}"
html_static_path = ["_static"]
html_css_files = ["jopt.css"]
html_favicon = "_static/favicon.svg"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
