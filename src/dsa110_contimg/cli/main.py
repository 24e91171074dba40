"""The one command: its parts are imported when they are called."""

import typer

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
from dsa110_contimg.cli.common import run_app

app = typer.Typer(
    name="dsa110-contimg",
    help="Continuum imaging for the DSA-110: sub-band files in, published mosaics out.",
    no_args_is_help=True,
    add_completion=False,
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

app.command()(operate.demo)
app.command()(setup.init)
app.command()(setup.doctor)
app.command()(operate.simulate)
app.command()(operate.status)
app.command()(operate.night)
app.command()(operate.retry)
app.command()(operate.report)
app.command()(operate.publish)
app.command()(operate.hold)
app.command()(operate.housekeeping)
app.command()(operate.serve)
app.command()(cluster.scheduler)
app.command()(cluster.worker)
app.command()(operate.config)
app.add_typer(catalog, name="catalog")
app.add_typer(caltables, name="caltables")
app.add_typer(beams, name="beam")
app.add_typer(flags, name="flags")
app.add_typer(db, name="db")
app.add_typer(benchmarks, name="bench")
app.add_typer(token, name="token")
app.add_typer(quarantine, name="quarantine")
app.command("antennas")(antennas.list_antennas)
app.command()(calibration.transits)
app.command()(batch.convert)
app.command()(batch.calibrate)
app.command()(batch.apply)
app.command("calibrate-fields")(batch.calibrate_fields)
app.command("apply-fields")(batch.apply_fields)
app.command()(batch.image)
app.command()(batch.validate)
app.command()(batch.crossmatch)
app.command()(batch.pipeline)
app.command()(batch.reprocess)
app.command()(batch.hips)
app.command()(batch.compare)
app.command()(batch.reproduce)
app.command()(batch.graph)
app.command("sources")(sources.sources)
app.command()(sources.lightcurve)


def main() -> None:
    """Entry point of dsa110-contimg."""
    run_app(app)


if __name__ == "__main__":
    main()
