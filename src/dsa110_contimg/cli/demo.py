"""The whole job on synthetic data: an hour of sky through the two streaming programs."""

import json
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import numpy as np
import typer

from dsa110_contimg import layout
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import events_after
from dsa110_contimg.registry.groups import groups_set_aside
from dsa110_contimg.registry.products import has_product
from dsa110_contimg.registry.tiles import count_converted
from dsa110_contimg.settings import load
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sources.accuracy import Accuracy, against_truth

_GROUPS = 12
_CATALOG = "demo"
_MARKER = ".contimg-demo"
_DEADLINE_S = 1800.0
_LOOK_S = 0.5
_MIN_FLUX_JY = 0.3


def run_demo(directory: Path, picture: Path | None) -> None:
    """Simulate, stream, publish, and say where the products are.

    Parameters
    ----------
    directory : Path
        Made afresh; only a directory that an earlier demo made is replaced.
    picture : Path or None
        Where to copy the mosaic's picture.

    Raises
    ------
    UsageError
        If the directory holds something else.
    """
    start = time.monotonic()
    _fresh(directory)
    incoming = directory / "incoming"
    incoming.mkdir()
    (directory / "contimg.toml").write_text(f'sky_catalog = "{_CATALOG}"\n')
    options = hour.RunOptions(groups=_GROUPS, antennas=40, channels=2)
    run = hour.prepare(options)
    run.write_truth(directory)
    catalogues.save(directory, run.sky.catalogue(_CATALOG))
    typer.echo(
        f"sky: {run.sky.flux_jy.size} sources, the brightest {run.sky.flux_jy.max():.1f} Jy; "
        f"array: {options.antennas} antennas; {_GROUPS} observations of 309 s"
    )
    with _Programs(directory, incoming) as programs:
        for group in range(_GROUPS):
            run.write(incoming, group)
            _progress(start, f"simulated observation {group + 1}/{_GROUPS}")
        _watch(directory, start, programs)
    _report(directory, start, picture)


def _fresh(directory: Path) -> None:
    if directory.exists():
        if not (directory / _MARKER).exists() and any(directory.iterdir()):
            raise UsageError(
                f"{directory}: holds something that is not a demo; give another --directory"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / _MARKER).touch()


def _progress(start: float, message: str) -> None:
    typer.echo(f"[{time.monotonic() - start:5.0f} s] {message}")


class _Programs:
    """The two streaming programs, running while the block does."""

    def __init__(self, root: Path, incoming: Path):
        scripts = Path(sys.executable).parent
        self._commands = {
            "convert": [
                str(scripts / "dsa110-contimg-convert-stream"),
                "--input-dir",
                str(incoming),
                "--output-dir",
                str(layout.measurement_sets(root)),
                "--root",
                str(root),
                "--poll-interval",
                "1",
            ],
            "mosaic": [
                str(scripts / "dsa110-contimg-streaming-mosaic"),
                "--loop",
                "--root",
                str(root),
                "--interval",
                "1",
            ],
        }
        self._logs = root / "logs"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "_Programs":
        self._logs.mkdir()
        for name, command in self._commands.items():
            typer.echo(f"$ {Path(command[0]).name} {' '.join(command[1:])}")
            with (self._logs / f"{name}.log").open("wb") as log:
                self._running[name] = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        return self

    def check(self) -> None:
        """Fail if a program has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._logs / f"{name}.log"
                raise ContimgError(
                    f"the {name} program ended with exit code {process.returncode}: "
                    f"{log.read_text()[-500:]}"
                )

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait(60)


def _watch(root: Path, start: float, programs: _Programs) -> None:
    """Show progress from the database and the log until the mosaic is published."""
    registry = Registry.of(load(root=root))
    log = (root / "logs" / "mosaic.log").open()
    seen_tiles = 0
    last_event = 0
    while time.monotonic() - start < _DEADLINE_S:
        programs.check()
        with registry.read() as session:
            converted = count_converted(session)
            events = events_after(session, last_event)
            groups = groups_set_aside(session)
            matched = has_product(session, "catalogue")
        if converted > seen_tiles:
            seen_tiles = converted
            _progress(start, f"converted {converted}/{_GROUPS} observations")
        for line in log.read().splitlines():
            if "stage=" in line:
                message, _, rest = line.partition("]")[2].strip().partition("  ")
                _progress(start, f"{rest.rpartition('stage=')[2].strip():10} {message.strip()}")
        for event in events:
            last_event = event.id
            _progress(start, f"{event.subject}: {event.message}")
            if event.level == "error":
                raise ContimgError(f"{event.subject}: {event.message}; see {root / 'logs'}")
        if groups:
            raise ContimgError(f"group {groups[0].id} is {groups[0].state}: {groups[0].reason}")
        if matched and sky_survey.is_current(registry, root):
            return
        time.sleep(_LOOK_S)
    raise ContimgError(f"no mosaic after {_DEADLINE_S:.0f} s; see {root / 'logs'}")


def _report(root: Path, start: float, picture: Path | None) -> None:
    mosaics = layout.published_mosaics(root)
    fits = next(p for p in sorted(mosaics.glob("mosaic_*.fits")) if p.stem.count("_") == 2)
    if picture is not None:
        shutil.copyfile(fits.with_suffix(".png"), picture)
    typer.echo("")
    typer.echo(f"mosaic     {fits}")
    typer.echo(f"picture    {fits.with_suffix('.png')}")
    typer.echo(f"report     {fits.with_suffix('.html')}")
    typer.echo(f"catalogue  {root / 'products' / 'catalogues' / (fits.stem + '_sources.fits')}")
    typer.echo(f"sky        {layout.hips(root)} (HiPS, for Aladin and other viewers)")
    typer.echo(f"truth      {root / hour.TRUTH_NAME}")
    typer.echo(f"accuracy   {_accuracy(root, fits)}")
    typer.echo(f"\n{time.monotonic() - start:.0f} s in all")
    if sys.stdout.isatty():
        webbrowser.open(fits.with_suffix(".html").as_uri())


def _accuracy(root: Path, fits: Path) -> Accuracy:
    truth = json.loads((root / hour.TRUTH_NAME).read_text())
    ra, dec, flux = (
        np.array([source[name] for source in truth]) for name in ("ra_deg", "dec_deg", "flux_jy")
    )
    noise = read_fits(fits.with_name(f"{fits.stem}_rms.fits")).pixels
    return against_truth(read_fits(fits), noise, ra, dec, flux, _MIN_FLUX_JY)
