"""Fifty clients of the REST interface on a year's database, beside a full-size job.

Run by `make load`. 100,000 tiles, a million measurements, a mosaic of 10,000 x 2,500 pixels, and
one full-size tile that is imaged again and again; each client asks once a second for a minute. The
slowest percent of the answers counts. Exits with 1 if lists or status take longer than 100 ms then.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import insert

from daemons import PROGRAMS, free_port, until
from dsa110_contimg import settings as settings_module
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    CalibrationSet,
    Job,
    MeasuredImage,
    Measurement,
    Mosaic,
    MosaicGroup,
    Product,
    Source,
    Tile,
)
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues

TILES, SOURCES, EPOCHS = 100_000, 10_000, 100
CLIENTS = 50
_LIMIT_MS = 100.0
_TILE_S = 309.24
_BATCH = 10_000
_SIZE = (2500, 10_000)
_NAME = "mosaic_20250101T000000_1735690000"


def fill(registry: Registry, now: float) -> None:
    """A year of rows."""
    rng = np.random.default_rng(1)
    starts = now - _TILE_S * np.arange(TILES)[::-1]
    quality = {"flagged_fraction": 0.1, "median_snr": 50.0, "reference_antenna": "103"}
    mosaics = range(0, TILES, 8)

    def rows(table: Any, make: Callable[[int], dict[str, Any]], numbers: Any) -> None:
        numbers = list(numbers)
        for begin in range(0, len(numbers), _BATCH):
            with registry.write() as session:
                session.execute(insert(table), [make(n) for n in numbers[begin : begin + _BATCH]])

    rows(
        Tile,
        lambda n: {
            "id": f"t{n:06d}",
            "time_key": float(n),
            "start": float(starts[n]),
            "state": "converted",
            "apparent_dec_deg": 16.2,
            "last_arrival": float(starts[n]),
            "n_subbands": 16,
            "ms_path": f"/data/ms/t{n:06d}.ms",
            "converted": {"dead_antennas": ["33", "87"]},
            "converted_at": float(starts[n]) + 60,
        },
        range(TILES),
    )
    rows(
        MosaicGroup,
        lambda n: {
            "id": f"t{n:06d}",
            "start": float(starts[n]),
            "state": "published",
            "tile_ids": [f"t{k:06d}" for k in range(n, min(n + 10, TILES))],
            "finished_at": float(starts[n]) + 600,
        },
        mosaics,
    )
    gates = [
        {"name": f"gate {k}", "value": 1.0, "limit": "at most 2", "verdict": "passed", "note": ""}
        for k in range(10)
    ]
    rows(
        Mosaic,
        lambda n: {
            "name": f"mosaic_t{n:06d}",
            "group_id": f"t{n:06d}",
            "start": float(starts[n]),
            "method": "mean",
            "state": "published",
            "verdict": "passed",
            "crossmatch": "done",
            "record": {
                "mosaic": {"tile_ids": [f"t{k:06d}" for k in range(n, n + 10)]},
                "validation": {"gates": gates},
            },
        },
        mosaics,
    )
    rows(
        CalibrationSet,
        lambda n: {
            "id": f"t{n:06d}_set",
            "tile_id": f"t{n:06d}",
            "path": f"/data/caltables/t{n:06d}",
            "observed": float(starts[n]),
            "apparent_dec_deg": 16.2,
            "bandpass_valid_s": 86400.0,
            "gains_valid_s": 3600.0,
            "quality": quality,
            "standing": "normal",
            "remark": "",
        },
        mosaics,
    )
    places = rng.uniform((0, 14), (360, 18.5), (SOURCES, 2))
    rows(
        Source,
        lambda n: {
            "id": n + 1,
            "name": f"DSA J{n:06d}",
            "ra_deg": float(places[n, 0]),
            "dec_deg": float(places[n, 1]),
            "origin": "nvss",
            "eta": float(rng.exponential()),
            "modulation": 0.1,
            "n_epochs": EPOCHS,
            "mean_jy": 0.1,
            "max_snr": 20.0,
            "behaviour": "constant",
            "dip": False,
        },
        range(SOURCES),
    )
    rows(
        MeasuredImage,
        lambda n: {
            "id": n + 1,
            "name": f"mosaic_e{n:03d}",
            "kind": "mosaic",
            "observed": now - 86400.0 * n,
            "frequency_hz": 1.4e9,
            "scale": 1.0,
            "scale_error": 0.01,
        },
        range(EPOCHS),
    )
    rows(
        Measurement,
        lambda n: {
            "source_id": n // EPOCHS + 1,
            "image_id": n % EPOCHS + 1,
            "flux_jy": 0.1,
            "error_jy": 0.005,
        },
        range(SOURCES * EPOCHS),
    )
    rows(
        Job,
        lambda n: {
            "type": "mosaic",
            "params": {"name": f"j{n}"},
            "state": "done",
            "created": now - n,
            "started": now - n,
            "ended": now - n,
        },
        range(5000),
    )


def publish(registry: Registry, root: Path, now: float) -> None:
    """One large mosaic for the cut-outs."""
    folder = root / "products" / "mosaics"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(2).normal(0, 1e-3, _SIZE).astype(np.float32)
    cell_rad = np.deg2rad(6 / 3600)
    image = Image(
        pixels=noise,
        centre_rad=(0.5, 0.3),
        reference_pixel=(_SIZE[1] / 2, _SIZE[0] / 2),
        cell_rad=cell_rad,
        projection="TAN",
        beam=None,
        unit="Jy/beam",
        frequency_hz=1.4e9,
    )
    files = {"mosaic": folder / f"{_NAME}.fits", "rms": folder / f"{_NAME}_rms.fits"}
    for path in files.values():
        write_fits(path, image)
    with registry.write() as session:
        record = {"mosaic": {"tile_ids": []}, "validation": {"gates": []}}
        session.add(
            Mosaic(
                name=_NAME,
                start=now,
                method="mean",
                state="published",
                verdict="passed",
                crossmatch="done",
                record=record,
            )
        )
        for kind, path in files.items():
            size = path.stat().st_size
            session.add(
                Product(path=str(path), kind=kind, name=_NAME, sha256="", size=size, published=now)
            )


def full_size_tile(root: Path) -> str:
    """A Measurement Set to image; its path relative to the root."""
    run = hour.prepare(hour.RunOptions(groups=1, antennas=96, channels=48, seed=11))
    catalogues.save(root, run.sky.catalogue("nvss"))
    with tempfile.TemporaryDirectory(prefix="load_files_") as folder:
        files = run.write(Path(folder), 0)
        subprocess.run(
            [
                PROGRAMS / "dsa110-contimg",
                "convert",
                *files,
                "--output",
                root / "full.ms",
                "--root",
                root,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return "full.ms"


def questions(now: float) -> dict[str, Callable[[random.Random], str]]:
    """What clients ask: kind and a path with other values each time."""
    ra, dec = np.rad2deg(0.5), np.rad2deg(0.3)
    return {
        "list of tiles": lambda r: f"/api/tiles?until={now - r.uniform(0, 3e7):.0f}",
        "list of mosaics": lambda r: f"/api/mosaics?until={now - r.uniform(0, 3e7):.0f}",
        "list of jobs": lambda _: "/api/jobs/",
        "list of sources": lambda r: f"/api/sources?ra={r.uniform(0, 360):.2f}&dec=16&radius=1",
        "list of calibration sets": lambda _: "/api/calibration-sets",
        "light curve": lambda r: f"/api/sources/{r.randint(1, SOURCES)}/lightcurve",
        "status": lambda _: "/api/status",
        "status of a job": lambda r: f"/api/jobs/{r.randint(1, 5000)}/status",
        "cut-out": lambda r: (
            f"/api/mosaics/{_NAME}/cutout?ra={ra + r.uniform(-5, 5):.3f}"
            f"&dec={dec + r.uniform(-1, 1):.3f}&size=20"
        ),
    }


async def client(
    number: int,
    session: httpx.AsyncClient,
    seconds: float,
    now: float,
    took_ms: dict[str, list[float]],
) -> None:
    """Ask once a second."""
    rng = random.Random(number)
    asked = questions(now)
    begin = time.perf_counter() + rng.uniform(0, 1)
    for second in range(int(seconds)):
        await asyncio.sleep(max(0.0, begin + second - time.perf_counter()))
        kind = rng.choice(list(asked))
        sent = time.perf_counter()
        answer = await session.get(asked[kind](rng))
        took_ms[kind].append(1e3 * (time.perf_counter() - sent))
        answer.raise_for_status()


async def crowd(url: str, seconds: float, now: float) -> dict[str, list[float]]:
    """All clients at once."""
    took_ms: dict[str, list[float]] = defaultdict(list)
    # Sessions of their own would spend seconds of this process on certificates that nobody needs.
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as session:
        await asyncio.gather(*(client(n, session, seconds, now, took_ms) for n in range(CLIENTS)))
    return took_ms


def main() -> int:
    """Fill, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="load_"))
    now = time.time()
    server = None
    try:
        (root / "contimg.toml").write_text("hips = false\n")
        registry = Registry.of(settings_module.load(root=root))
        fill(registry, now)
        publish(registry, root, now)
        registry.close()
        ms = full_size_tile(root)
        # What was just filled must not be on its way to the disk while answers are timed.
        os.sync()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with (root / "serve.log").open("wb") as log:
            server = subprocess.Popen(
                [PROGRAMS / "dsa110-contimg", "serve", "--port", str(port), "--root", root],
                stdout=log,
                stderr=log,
                env={**os.environ, "CONTIMG_SKY_CATALOG": "nvss"},
            )

        def running() -> bool:
            try:
                jobs = httpx.get(f"{url}/api/jobs/?status=running", timeout=30.0).json()
            except httpx.TransportError:
                return False
            return bool(jobs)

        until(lambda: _answers(url), 60.0, 0.2)
        for number in range(20):
            body = {"type": "image", "params": {"ms": ms, "output": f"products/full{number}"}}
            httpx.post(f"{url}/api/jobs/", json=body).raise_for_status()
        until(running, 30.0, 0.2)
        # A server of months: libraries are loaded.
        for ask in questions(now).values():
            httpx.get(url + ask(random.Random(0)), timeout=30.0).raise_for_status()
        took_ms = asyncio.run(crowd(url, options.seconds, now))
        busy = running()
        told = {}
        for kind, values in sorted(took_ms.items()):
            p50, p99 = np.percentile(values, [50, 99])
            figures = {"p50_ms": p50, "p99_ms": p99, "most_ms": max(values)}
            told[kind] = {"asked": len(values), **{k: round(v, 1) for k, v in figures.items()}}
        bound = [
            v
            for kind, values in took_ms.items()
            if "list" in kind or "status" in kind
            for v in values
        ]
        p99 = float(np.percentile(bound, 99))
        print(json.dumps(told, indent=1))
        print(
            f"lists and status: p99 {p99:.0f} ms of {len(bound)} answers; a full-size job ran: "
            f"{busy}"
        )
        return int(p99 > _LIMIT_MS or not busy)
    finally:
        if server is not None:
            server.terminate()
            server.wait(60)
        shutil.rmtree(root, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/jobs/").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
