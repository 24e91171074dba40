"""One self-contained HTML page: pictures inside, no scripts, no links out; opens in ten years."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading row.

    Attributes
    ----------
    heading : sequence of str
    rows : sequence of sequence of str
    verdict_column : int or None
        Column whose words passed, warning, failed are coloured.
    is_long : bool
        Show a part, which can be scrolled.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict_column: int | None = None
    is_long: bool = False


@dataclass(frozen=True)
class Section:
    """Part of a page.

    Attributes
    ----------
    title : str
    text : str
    table : Table or None
    pictures : sequence of (str, bytes)
        Caption and PNG.
    side_by_side : bool
        Show pictures beside each other where there is room.
    """

    title: str
    text: str = ""
    table: Table | None = None
    pictures: Sequence[tuple[str, bytes]] = ()
    side_by_side: bool = False


def page(title: str, verdict: str, sections: Sequence[Section]) -> str:
    """The whole page as HTML; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("dsa110_contimg.quality"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = _data_url
    return environment.get_template("report.html").render(
        title=title, verdict=verdict, sections=sections
    )


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
