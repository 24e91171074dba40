"""Look after the database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, print_json
from dsa110_contimg.cli.tables import Column, print_table
from dsa110_contimg.durable import check_writable_file
from dsa110_contimg.errors import ContimgError
from dsa110_contimg.wording import counted

if TYPE_CHECKING:
    from dsa110_contimg.registry.file_check import Finding

_FINDINGS: "tuple[Column[Finding], ...]" = (
    Column("subject", lambda row: row.subject),
    Column("problem", lambda row: row.problem),
    Column("action", lambda row: row.action),
)
_ROWS: tuple[Column[tuple[str, int]], ...] = (
    Column("table", lambda row: row[0]),
    Column("rows", lambda row: str(row[1]), True),
)


def db_upgrade(root: RootOption = None) -> None:
    """Bring the database to this program's version; a backup is made first. Stop the daemons."""
    from dsa110_contimg.registry import care

    settings = load_settings(root=root)
    before, after, kept = care.upgrade(settings.database, settings.root)
    typer.echo(f"version {before} -> {after}; backup: {kept}")


def db_check(
    root: RootOption = None,
    files: Annotated[
        bool, typer.Option("--files", help="Compare rows with files too, and put right what can be")
    ] = False,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="With --files: read every product")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --files: change nothing")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with the database, and with --files what became of files that disagree."""
    from dsa110_contimg import records
    from dsa110_contimg.registry import care
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.file_check import check_files

    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    wrong = care.check(registry)
    found = (
        check_files(registry, settings.root, checksums=checksums, dry_run=dry_run) if files else []
    )
    if as_json:
        print_json({"database": wrong, "files": [records.to_json(one) for one in found]})
    else:
        for line in wrong:
            typer.echo(line)
        if found:
            print_table(found, _FINDINGS)
        if not wrong and not found:
            typer.echo("nothing is wrong")
    if wrong:
        raise ContimgError(f"{counted(len(wrong), 'fault')}; restore a backup (docs/operations.md)")


def db_backup(
    target: Annotated[
        Path | None, typer.Argument(help="File to write (default: state/backups/ in the root)")
    ] = None,
    root: RootOption = None,
) -> None:
    """Copy the database into a SQLite file, while everything runs."""
    from dsa110_contimg.registry import care

    settings = load_settings(root=root)
    path = target.absolute() if target else care.default_backup_path(settings.root)
    if target:
        check_writable_file(path)
    rows = care.backup(settings.database, path)
    typer.echo(f"{path}: {counted(sum(rows.values()), 'row')}")


def db_copy(
    target: Annotated[str, typer.Argument(help="URL of an empty database")], root: RootOption = None
) -> None:
    """Copy all rows into an empty database of any kind, and compare. Stop the daemons before."""
    from dsa110_contimg.registry import care

    rows = care.copy(load_settings(root=root).database, target)
    print_table(list(rows.items()), _ROWS)
    typer.echo(f"equal; set database_url to {care.describe(target)}")
