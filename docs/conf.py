"""How Sphinx builds the documentation: ``make docs`` calls it, and so does Read the Docs."""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent.parent))

from django_dcr import __version__

# Models are described from their code, which takes a configured Django and no database.
settings.configure(
    DCR_ENCRYPTION_KEYS=[],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_dcr"],
    USE_TZ=True,
)
django.setup()

project = "django-dcr"
author = "django-dcr contributors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = __version__
html_title = f"django-dcr {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["screenshots"]
smartquotes = False

# Links to headings, as GitHub makes them, so that the pages read well in both places.
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["django-dcr.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
