"""Pages: a template, its style and scripts as one HTML file that needs nothing else and asks for nothing.

A page's Content-Security-Policy allows its own scripts and style by their hashes, images that stand in the page, and no
request. Whatever comes from files is escaped by the template, or stands in a block of JSON.
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import afmid


def document(template: str, scripts: list[str], data: Any, **values: Any) -> str:
    """Return the page of a template.

    Args:
        template: its name, without suffix.
        scripts: files in the package that run in the page, in their order, such as "vendor/3Dmol-min.js".
        data: JSON-able; the scripts find it as the text of the element "data".
        values: what the template shows.
    """
    style, sources = _packaged("templates/style.css"), [_packaged(name) for name in scripts]
    page = _environment().get_template(f"{template}.html")
    return page.render(
        policy=_policy(sources, style),
        style=Markup(style),  # noqa: S704 (the package's own)
        scripts=[Markup(source) for source in sources],  # noqa: S704
        data=Markup(_json(data)),  # noqa: S704 (no "<" is left in it)
        licence=_packaged("vendor/3Dmol-LICENSE.txt") if "vendor/3Dmol-min.js" in scripts else "",
        afmid_version=afmid.__version__,
        **values,
    )


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return a file's content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _policy(scripts: list[str], style: str) -> str:
    hashes = " ".join(map(_hash, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    """Return JSON that may stand in a script element: it cannot end it, nor open a comment."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


@cache
def _packaged(name: str) -> str:
    return files("afmid.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("afmid.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
