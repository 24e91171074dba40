"""The one command: its parts are imported when they are called."""

from typing import Any

import typer
from typer.core import TyperGroup

from dsa110_contimg.cli import (
    antennas,
    batch,
    beam,
    bench,
    calibration,
    catalogue,
    cluster,
    database,
    operate,
    setup,
    sources,
)
from dsa110_contimg.cli.common import VersionOption, run_app

START, BATCH, LOOK, KEEP = "Start", "Process, once", "Look at what there is", "Keep house"
"""Sections of the help, in their order."""
_DAEMONS = (
    "To stream for months, start the programs dsa110-contimg-convert-stream and "
    "dsa110-contimg-streaming-mosaic; dsa110-contimg-mosaic plans and makes mosaics of tiles that "
    "are there."
)


class _Sections(TyperGroup):
    """Commands in sections, as on the first page of a book."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each section."""
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        width = formatter.width - 6 - max(len(name) for name, _ in shown)
        for section in (START, BATCH, LOOK, KEEP):
            rows = [
                (name, command.get_short_help_str(width))
                for name, command in shown
                if getattr(command, "rich_help_panel", None) == section
            ]
            with formatter.section(section):
                formatter.write_dl(rows)


app = typer.Typer(
    name="dsa110-contimg",
    cls=_Sections,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
catalog = typer.Typer(help="Reference catalogues.", no_args_is_help=True)
catalog.command("import")(catalogue.catalog_import)
catalog.command("fetch")(catalogue.catalog_fetch)
catalog.command("list")(catalogue.catalog_list)
catalog.command("cone", context_settings={"ignore_unknown_options": True})(catalogue.catalog_cone)

caltables = typer.Typer(help="Calibration sets.", no_args_is_help=True)
caltables.command("list")(calibration.caltables_list)
caltables.command("show")(calibration.caltables_show)
caltables.command("plot")(calibration.caltables_plot)
caltables.command("reject")(calibration.caltables_reject)
caltables.command("prefer")(calibration.caltables_prefer)
caltables.command("accept")(calibration.caltables_accept)
beams = typer.Typer(help="Primary beams.", no_args_is_help=True)
beams.command("list")(beam.beam_list)
beams.command("combine")(beam.beam_combine)
beams.command("fit")(beam.beam_fit)
db = typer.Typer(help="The database.", no_args_is_help=True)
db.command("upgrade")(database.db_upgrade)
db.command("check")(database.db_check)
db.command("backup")(database.db_backup)
db.command("copy")(database.db_copy)
quarantine = typer.Typer(help="Work that failed for good.", no_args_is_help=True)
quarantine.command("list")(operate.quarantine_list)
quarantine.command("release")(operate.retry)
token = typer.Typer(help="Tokens of the REST interface.", no_args_is_help=True)
token.command("create")(operate.token_create)
token.command("list")(operate.token_list)
token.command("revoke")(operate.token_revoke)
benchmarks = typer.Typer(help="How fast this is here.", no_args_is_help=True)
benchmarks.command("scale")(bench.scale)
# A single command in a group needs this to keep its name.
benchmarks.callback()(lambda: None)
flags = typer.Typer(help="Flags given by hand.", no_args_is_help=True)
flags.command("add")(calibration.flags_add)
flags.command("list")(calibration.flags_list)
flags.command("remove")(calibration.flags_remove)

for _section, _commands in {
    START: (operate.demo, setup.init, setup.doctor, operate.simulate),
    BATCH: (
        batch.pipeline,
        batch.convert,
        batch.calibrate,
        batch.apply,
        batch.calibrate_fields,
        batch.apply_fields,
        batch.image,
        batch.validate,
        batch.crossmatch,
        batch.reprocess,
        batch.reproduce,
        batch.compare,
        batch.graph,
    ),
    LOOK: (
        operate.status,
        operate.night,
        operate.report,
        sources.sources,
        sources.lightcurve,
        calibration.transits,
        batch.hips,
        operate.serve,
    ),
    KEEP: (
        operate.config,
        operate.retry,
        operate.publish,
        operate.hold,
        operate.housekeeping,
        cluster.scheduler,
        cluster.worker,
    ),
}.items():
    for _command in _commands:
        _name = _command.__name__.replace("_", "-")
        app.command(_name, rich_help_panel=_section)(_command)
app.command("antennas", rich_help_panel=LOOK)(antennas.list_antennas)
for _section, _name, _group in (
    (START, "catalog", catalog),
    (BATCH, "caltables", caltables),
    (BATCH, "beam", beams),
    (BATCH, "flags", flags),
    (KEEP, "quarantine", quarantine),
    (KEEP, "db", db),
    (KEEP, "token", token),
    (KEEP, "bench", benchmarks),
):
    app.add_typer(_group, name=_name, rich_help_panel=_section)


@app.callback(epilog=_DAEMONS)
def _options(version: VersionOption = False) -> None:
    """Continuum imaging for the DSA-110: sub-band files in, published mosaics out."""


def main() -> None:
    """Entry point of dsa110-contimg."""
    run_app(app)


if __name__ == "__main__":
    main()
