"""Set a root up, and find out what is wrong with one."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from dsa110_contimg import layout
from dsa110_contimg.cli.common import JsonOption, RootOption, load_settings, print_json
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.durable import way_to_place
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.settings import FILE_NAME, Settings
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted

_WORKER_GIB = 5.0
_CLUSTER_S = 15.0
_EXAMPLE_ALERTS = [
    f"# [[alerts]]\n# {rule}\n"
    for rule in (
        'name = "no data"\n# when = "data_age_s"\n# limit = 1800\n'
        '# command = ["mail", "-s", "DSA-110 continuum", "operators@example.org"]',
        'name = "behind the sky"\n# when = "lag_s"\n# limit = 7200',
        'name = "failures"\n# when = "failing"\n# limit = 5',
        'name = "disk"\n# when = "disk_free_gb"\n# limit = 100',
        'name = "last night"\n# when = "night"\n# limit = 16\n'
        '# webhook = "https://example.org/contimg"',
    )
]
_UNIT = """[Unit]
Description=dsa110-contimg: {what}
After=network.target time-sync.target

[Service]
Type={kind}
User={user}
Environment=CONTIMG_ROOT={root}
ExecStart={command}
Restart=always
RestartSec=10
# The workers end with their daemon, and one that takes too much memory ends alone.
KillMode=control-group
OOMPolicy=continue
{daemon}TimeoutStopSec=60

[Install]
WantedBy=multi-user.target
"""
_WATCHED = {
    "kind": "notify",
    "daemon": "# Before the jobs of the server.\nCPUWeight=1000\n"
    "# The loop itself says that it is alive.\nWatchdogSec=600\n",
}


def init(
    root: RootOption = None,
    input_dir: Annotated[Path, typer.Option(help="Directory that sub-band files arrive in")] = Path(
        "/data/incoming"
    ),
    user: Annotated[str, typer.Option(help="User that the daemons run as")] = "dsa110",
) -> None:
    """Make the directories, a commented contimg.toml, and units for systemd; overwrites nothing."""
    settings = load_settings(root=root)
    base = settings.root
    for directory in layout.directories(base):
        directory.mkdir(parents=True, exist_ok=True)
    programs = Path(sys.executable).parent
    files = {
        base / FILE_NAME: commented_settings(),
        base / "systemd" / "dsa110-contimg-convert.service": _UNIT.format(
            what="sub-band files to Measurement Sets",
            user=user,
            root=base,
            **_WATCHED,
            command=f"{programs}/dsa110-contimg-convert-stream --input-dir {input_dir} "
            f"--output-dir {base}/ms",
        ),
        base / "systemd" / "dsa110-contimg-mosaic.service": _UNIT.format(
            what="tiles to published mosaics",
            user=user,
            root=base,
            **_WATCHED,
            command=f"{programs}/dsa110-contimg-streaming-mosaic --loop",
        ),
        base / "systemd" / "dsa110-contimg-serve.service": _UNIT.format(
            what="REST interface and metrics",
            user=user,
            root=base,
            kind="exec",
            daemon="",
            command=f"{programs}/dsa110-contimg serve",
        ),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            typer.echo(f"{path}: is there already, left as it is")
            continue
        path.write_text(content)
        typer.echo(path)


def commented_settings() -> str:
    """A settings file in which every setting is explained and none is set."""
    lines = ["# Settings of dsa110-contimg. Take the # away from what you change.", ""]
    for name, field in Settings.model_fields.items():
        if name == "root":
            continue
        key = field.alias or name
        default = field.get_default(call_default_factory=True)
        lines.append(f"# {field.description}")
        # Tables come last, here as in the model: what follows one belongs to it.
        if isinstance(default, dict):
            lines += [f"# [{key}]", ""]
        elif isinstance(default, BaseModel):
            lines += [f"# [{key}]", *_commented_table(key, type(default)), ""]
        elif key == "alerts":
            lines += _EXAMPLE_ALERTS
        elif default is None:
            lines += [f"# {key} = ", ""]
        else:
            lines += [f"# {key} = {json.dumps(default)}", ""]
    return "\n".join(lines)


def _commented_table(table: str, model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield f"# {field.description}"
        is_table = default is None and "dict" in str(field.annotation)
        given = "" if default is None else json.dumps(default)
        yield f"# [{table}.{name}]" if is_table else f"# {name} = {given}"


def doctor(root: RootOption = None, as_json: JsonOption = False) -> None:
    """Check paths, rights, space, memory, clock, catalogue, Earth orientation and database."""
    settings = load_settings(root=root)
    found = list(examine(settings))
    if as_json:
        print_json([{"what": what, "verdict": verdict, "why": why} for what, verdict, why in found])
    else:
        for what, verdict, why in found:
            colour = {"ok": "green", "warning": "yellow"}.get(verdict, "red")
            typer.secho(f"{verdict:8}{what}: {why}", fg=colour)
    if any(verdict == "failed" for _, verdict, _ in found):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What was looked at, the verdict (ok, warning or failed), and why."""
    root = settings.root
    if not root.is_dir():
        yield "root", "failed", f"{root} does not exist; make it with 'dsa110-contimg init'"
        return
    if os.access(root, os.W_OK):
        yield "root", "ok", str(root)
    else:
        yield "root", "failed", f"{root} may not be written by this user"
    yield from _examine_placing(root)
    free_gb = shutil.disk_usage(root).free / 1e9
    enough = free_gb >= settings.disk_resume_gb
    yield (
        "space",
        "ok" if enough else "warning",
        f"{free_gb:.0f} GB are free; no new work begins below {settings.disk_stop_gb:g} GB",
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    wanted_gib = _WORKER_GIB * settings.workers
    yield (
        "memory",
        "ok" if memory_gib >= wanted_gib else "warning",
        f"{memory_gib:.0f} GiB; {settings.workers} workers may take {wanted_gib:.0f} GiB",
    )
    yield from _examine_database(settings)
    yield from _examine_catalogue(settings)
    yield from _examine_orientation()
    yield from _examine_libraries()
    if settings.executor.scheduler:
        yield from _examine_cluster(settings)


def _examine_placing(root: Path) -> Iterator[tuple[str, str, str]]:
    try:
        way = way_to_place(root)
    except OSError as error:
        yield "placing files", "failed", f"{root}: {error.strerror}"
        return
    crash_safe = way != "exclusive creation"
    yield (
        "placing files",
        "ok" if crash_safe else "warning",
        f"products get their names by {way}"
        + ("" if crash_safe else "; after a crash one may be empty until it is published again"),
    )


def _examine_cluster(settings: Settings) -> Iterator[tuple[str, str, str]]:
    from dsa110_contimg.executors.opening import open_executor

    address = settings.executor.scheduler
    try:
        with open_executor(settings) as executor:
            deadline = time.monotonic() + _CLUSTER_S
            while not executor.capacity and time.monotonic() < deadline:
                time.sleep(0.2)
            slots = executor.capacity
    except ContimgError as error:
        yield "cluster", "failed", str(error)
        return
    yield (
        "cluster",
        "ok" if slots else "failed",
        f"{address}: workers for {slots} calls at once"
        + ("" if slots else "; start scheduler and workers, and look at what is logged here"),
    )


def _examine_database(settings: Settings) -> Iterator[tuple[str, str, str]]:
    from dsa110_contimg.registry.database import Registry, shown_url
    from dsa110_contimg.registry.status import overview

    try:
        latest = overview(Registry.of(settings, create=False)).latest_tile
    except UsageError:
        yield (
            "database",
            "warning",
            f"{shown_url(settings.database)}: there is none yet; the first work makes it",
        )
        return
    except ContimgError as error:
        yield "database", "failed", str(error)
        return
    yield "database", "ok", shown_url(settings.database)
    if latest is not None and latest > time.time() + 60:
        yield (
            "clock",
            "failed",
            f"the newest tile was observed {iso(latest)} UTC, after this machine's now "
            f"({iso(time.time())}); set the clock",
        )
    else:
        yield "clock", "ok", f"{iso(time.time())} UTC"


def _examine_catalogue(settings: Settings) -> Iterator[tuple[str, str, str]]:
    from dsa110_contimg.sky import catalogues

    try:
        found = catalogues.load(settings.root, settings.sky_catalog)
    except ContimgError as error:
        yield "catalogue", "failed", str(error)
    else:
        yield "catalogue", "ok", f"{settings.sky_catalog}: {counted(len(found), 'source')}"


def _examine_orientation() -> Iterator[tuple[str, str, str]]:
    from dsa110_contimg.sky.astrometry import orientation_table_end

    end_s = orientation_table_end()
    left_days = (end_s - time.time()) / DAY_S
    yield (
        "Earth orientation",
        "ok" if left_days > 30 else "warning",
        f"table ends {iso(end_s)[:10]}" + ("" if left_days > 30 else "; update astropy-iers-data"),
    )


def _examine_libraries() -> Iterator[tuple[str, str, str]]:
    import importlib

    for name in ("casacore.tables", "ducc0", "radler", "aoflagger", "bdsf"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield name, "failed", f"cannot be imported: {error}"
        else:
            yield name, "ok", "imported"
