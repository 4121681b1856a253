"""Values as HTML that the reader's browser writes in its own way: times by zone and locale, numbers by locale."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from markupsafe import Markup, escape

STATIC: Final = Path(__file__).parent / "static"
_ICONS = STATIC / "vendor" / "lucide"
NOTHING: Final = Markup('<span class="muted">&ndash;</span>')


def time(value: datetime | None, form: str = "datetime") -> Markup:
    """Return a time; `form`: `datetime`, `date`, `time` or `ago`. What stands in it is for browsers without scripts."""
    if value is None:
        return NOTHING
    at = value.astimezone(UTC)
    text = at.strftime("%Y-%m-%d" if form == "date" else "%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(at.isoformat(), form, text)


def number(value: float | None, digits: int = 0, form: str = "decimal") -> Markup:
    """Return a number with so many digits after the point at most; `form`: `decimal`, `percent` or `compact`."""
    if value is None:
        return NOTHING
    text = f"{100 * value:.{digits}f} %" if form == "percent" else f"{value:,.{digits}f}"
    return Markup('<data value="{}" data-form="{}" data-digits="{}">{}</data>').format(value, form, digits, text)


def percent(value: float | None, digits: int = 1) -> Markup:
    """Return a share."""
    return number(value, digits, "percent")


def money(value: float | None, currency: str = "GBP") -> Markup:
    """Return a price in a currency, by its code of ISO 4217."""
    if value is None:
        return NOTHING
    shown = f"{value:,.2f} {currency}"
    return Markup('<data value="{}" data-form="money" data-currency="{}">{}</data>').format(value, currency, shown)


@cache
def icon(name: str, label: str = "") -> Markup:
    """Return one of Lucide's icons, for the page itself: so it has the text's colour. Without a label it is decoration.

    Raises:
        FileNotFoundError: it is not among those that are here.
    """
    drawing = (_ICONS / f"{name}.svg").read_text()
    said = Markup('role="img" aria-label="{}"').format(escape(label)) if label else 'aria-hidden="true"'
    return Markup(drawing[drawing.index("<svg") :].replace("<svg", f"<svg {said}", 1))
