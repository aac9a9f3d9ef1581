"""Sphinx: `python -m sphinx -W --keep-going -b html docs docs/_build/html`. Needs no network."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import jopt

project = "jopt"
author = "The jopt authors"
copyright = "The jopt authors"
release = version = jopt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "jopt_docs"]
exclude_patterns = ["_build"]
highlight_language = "none"
html_theme = "furo"
html_title = f"jopt {version}"
html_static_path = ["_static"]
html_css_files = ["jopt.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Aliases stay as they are written; spelt out they would fill half a page.
autodoc_type_aliases = {
    name: name for name in ("Groups", "Leaves", "Match", "Node", "Number", "State", "Tree", "Value")
}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
