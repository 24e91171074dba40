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
_WIDEST = 10_000
"""Characters; a line is never broken, since programs such as grep and awk read it."""


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
    """Print rows as a table with a header."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.title), justify="right" if column.is_number else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    Console(width=_WIDEST, highlight=False).print(table)


def number(value: float | None, form: str) -> str:
    """Format a number; a dash for none."""
    return ABSENT if value is None else format(value, form)
