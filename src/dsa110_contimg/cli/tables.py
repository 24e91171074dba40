"""Tables of the command line: the same rows for people and, as JSON, for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import typer

from dsa110_contimg.cli.common import print_json

if TYPE_CHECKING:
    from dsa110_contimg.quality.gates import Gate

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")
ABSENT = "-"
"""For a value that is not known."""


@dataclass(frozen=True)
class Column(Generic[T_contra]):
    """A column of a table.

    Attributes
    ----------
    title : str
        With the unit, if the values have one.
    text : callable
        Gives the text for a row.
    is_number : bool
        Align to the right.
    """

    title: str
    text: Callable[[T_contra], str]
    is_number: bool = False


GATES: "tuple[Column[Gate], ...]" = (
    Column("gate", lambda row: row.name),
    Column("verdict", lambda row: row.verdict),
    Column("value", lambda row: row.value_text, True),
    Column("limit", lambda row: row.limit),
    Column("note", lambda row: row.note),
)
"""Of the gates of a mosaic."""


def present(
    rows: Sequence[T], columns: Sequence[Column[T]], nothing: str, *, as_json: bool
) -> None:
    """Print rows as a table with a header, or as JSON; say so if there are none.

    Parameters
    ----------
    rows : sequence
    columns : sequence of Column
    nothing : str
        What to say if there are none.
    as_json : bool
    """
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(nothing, err=True)
        return
    print_table(rows, columns)


def print_table(rows: Sequence[T], columns: Sequence[Column[T]]) -> None:
    """Print rows as a table with a header; no line is broken, since programs read them too."""
    # Libraries for tables fill the last column with spaces, which a terminal breaks into lines.
    cells = [[column.text(row) for column in columns] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        aligned = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(texts, widths, columns, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    typer.secho(line(titles), bold=True)
    for texts in cells:
        typer.echo(line(texts))


def number(value: float | None, form: str) -> str:
    """Format a number; a dash for none."""
    return ABSENT if value is None else format(value, form)
