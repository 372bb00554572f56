"""Templates to pages: one HTML file that needs nothing else. What comes from a record is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from expunge.errors import UserError, install
from expunge.report.words import model_name


def rendered(templates: Sequence[str], content: Mapping[str, Any]) -> str:
    """The first of `templates` (files of this folder), which may include the others, filled with `content`.

    Raises:
        UserError: jinja2 is missing.
    """
    try:
        from jinja2 import DictLoader, Environment, StrictUndefined
    except ImportError as error:
        raise UserError("the report needs jinja2, which is not installed",
                        remedy=install("report")) from error
    here = resources.files("expunge.report")
    sources = {name: here.joinpath(name).read_text(encoding="utf-8") for name in templates}
    language = Environment(loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                           lstrip_blocks=True)
    language.filters["model_name"] = model_name
    page: str = language.get_template(templates[0]).render(dict(content))
    return page
