# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sphinx: the texts of docs/, the C reference by breathe, the Python reference by autodoc."""
import os
import sys
import types

project = "libczone"
author = copyright = "the libczone authors"
extensions = ["breathe", "myst_parser", "sphinx.ext.autodoc"]
breathe_projects = {"czone": os.environ["CZONE_XML"]}
breathe_default_project = "czone"
breathe_domain_by_extension = {"h": "c"}
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Memory zones for the containers of a virtual machine",
                      "page_width": "1100px"}
html_show_sourcelink = False
highlight_language = "text"
nitpicky = False
autodoc_member_order = "bysource"


class _Anything(types.ModuleType):
    """In place of the compiled module, which the manual does not need."""

    def __getattr__(self, name):
        if name.startswith("CZONE_"):
            return abs(hash(name)) % 100000
        return lambda *args: None


# the package is documented from its source, wherever the module was built
sys.path.insert(0, os.environ["CZONE_BINDINGS"])
sys.modules["czone._czone"] = _Anything("czone._czone")
