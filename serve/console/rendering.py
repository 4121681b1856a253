"""Pages: templates and what all of them are given."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from serve.console import formatting
from serve.console.formatting import STATIC
from serve.console.sessions import Visitor
from serve.console.visitors import TOKEN, visitor

_TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation."""

    name: str
    path: str
    icon: str
    """Of Lucide's."""


class Pages:
    """Renders templates. What is put into them is escaped; a name that a template is not given is an error."""

    def __init__(self, navigation: Sequence[Page] = ()) -> None:
        self.navigation = tuple(navigation)
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        shown = ("time", "number", "percent", "money")
        self._templates.filters.update({name: getattr(formatting, name) for name in shown})
        self._templates.globals.update(icon=formatting.icon, version=_digest(STATIC))

    def show(
        self, request: Request, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **given: Any
    ) -> HTMLResponse:
        """Return a page, or a part of one, as an answer."""
        root = request.scope.get("root_path", "")
        return HTMLResponse(self.render(template, root, visitor(request.scope), **given), status, headers)

    def render(self, template: str, root: str, who: Visitor, **given: Any) -> str:
        """Return the HTML of a template, which is given the visitor, the navigation and what is named here."""
        return self._templates.get_template(template).render(
            root=root,
            principal=who.principal,
            token=who.token,
            token_field=TOKEN,
            navigation=self.navigation,
            **given,
        )

    def render_part(self, template: str, **given: Any) -> str:
        """Return the HTML of a template that is the same for every visitor."""
        return self._templates.get_template(template).render(**given)


def _digest(folder: Path) -> str:
    """Return what changes when a file of a folder does: a part of their addresses, so that browsers may keep them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
