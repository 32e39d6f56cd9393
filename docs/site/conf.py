"""How Sphinx makes the site; `build.py` calls it."""

import jaxdrl

project = "jaxdrl"
author = "The jaxdrl authors"
copyright = author
release = version = jaxdrl.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
default_role = "code"  # docstrings have names in single backticks
root_doc = "index"
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
html_theme = "furo"
html_title = f"jaxdrl {release}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
myst_links_external_new_tab = False
nb_execution_mode = "off"  # the notebooks are stored with their output
nb_output_stderr = "remove-warn"

nitpicky = True
# Types of other packages, which autodoc names, one way or another by the version of Sphinx.
nitpick_ignore_regex = [("py:(?!obj).*", ".*"), ("py:obj", r"(?!jaxdrl\.).*")]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
copybutton_exclude = ".linenos, .gp, .go"


def mark_formulas(app, what, name, obj, options, lines):
    """An indented paragraph of a docstring is a formula or code, and no quotation."""
    for i in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[: i - 1]) if line.strip()), "")
        is_first = lines[i].startswith("    ") and not lines[i - 1].strip()
        if is_first and not above.startswith(" "):
            lines[i:i] = ["::", ""]


def skip_fields(app, what, name, obj, skip, options):
    """The fields of a named tuple are in its docstring already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Docstrings pass here before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", mark_formulas, priority=100)
    app.connect("autodoc-skip-member", skip_fields)
