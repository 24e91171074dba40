"""Instruments that are not ideal, one trouble at a time and all together, against the truth.

Run by `make troubles`; `make troubles TROUBLES="wide-beam all" SEEDS="1 2"` runs some of it. Each
line is simulated (44 antennas, ten observations), streamed, and its mosaic compared with the truth.
With `FULL=--full-size` it has 96 antennas and 768 channels and needs 40 GB in the temporary folder.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.simulation import hour, instrument
from dsa110_contimg.simulation.troubles import DeadHand, Jump, Troubles
from dsa110_contimg.sky import catalogues, matching
from dsa110_contimg.sources.accuracy import against_truth, noise_over_stated
from dsa110_contimg.telescope import DSA110

_SCRIPTS = Path(sys.executable).parent
_IDEAL = hour.RunOptions(groups=10, antennas=44, channels=2)
_TILE_S = DSA110.integrations_per_file * DSA110.integration_s
_MIN_FLUX_JY = 0.1
_STRONG_SIGMA = 7.0
_MATCH_ARCSEC = 15.0


def _names() -> list[str]:
    """Stations with data, the reference antennas apart."""
    every = DSA110.stations
    here = [every[i] for i in instrument.antennas_in_data(_IDEAL.antennas)]
    return [name for name in here if name not in DSA110.reference_antennas]


def lines() -> Mapping[str, hour.RunOptions]:
    """Return the options of each line by its name."""
    a, b, c, d = _names()[5:33:7]
    fourth, fifth = 4 * _TILE_S, 5 * _TILE_S
    single = {
        "ideal": Troubles(),
        "common-drift": Troubles(common_drift_per_h=0.1),
        "antenna-drift": Troubles(antenna_drift_per_h=0.05),
        "gain-jumps": Troubles(jumps=(Jump(a, fourth, gain=1.5), Jump(b, fifth, gain=0.5))),
        "delay-jumps": Troubles(
            jumps=(Jump(a, fourth, delay_ns=8.0), Jump(b, fifth, delay_ns=15.0))
        ),
        "bad-antennas": Troubles(
            dead_hands=(DeadHand(a, 0), DeadHand(b, 1)), noisy=(c,), swapped=(d,)
        ),
        "wide-beam": Troubles(beam_width=1.08),
        "beam-elsewhere": Troubles(beam_east_arcmin=3.0, beam_north_arcmin=15.0),
        "unequal-beams": Troubles(beam_width_scatter=0.03),
        "pointing": Troubles(pointing_scatter_arcmin=6.0),
        "ionosphere": Troubles(refraction_arcsec=4.0),
        "crosstalk": Troubles(crosstalk_jy=30.0),
        "Sun": Troubles(far_jy={"Sun": 60.0}),
        "misplaced": Troubles(misplaced_m={a: (0.8, -0.5, 0.0)}),
        "resolved-sources": Troubles(extended=15),
        "all": Troubles(
            pointing_scatter_arcmin=4.0,
            beam_width=1.04,
            beam_width_scatter=0.02,
            crosstalk_jy=5.0,
            antenna_drift_per_h=0.03,
            common_drift_per_h=0.04,
            jumps=(Jump(a, fourth, delay_ns=8.0), Jump(b, 6 * _TILE_S, gain=0.6)),
            dead_hands=(DeadHand(c, 0),),
            noisy=(d,),
            refraction_arcsec=2.0,
            position_error_m=0.01,
            extended=8,
        ),
    }
    found = {name: replace(_IDEAL, troubles=one) for name, one in single.items()}
    delays = dict(zip((a, b, c), (434.0, -193.0, 1550.0), strict=True))
    found["delays"] = replace(_IDEAL, channels=12, troubles=Troubles(delays_ns=delays))
    found["faint-sky"] = replace(_IDEAL, antennas=96, troubles=Troubles(faint_mjy=1.0))
    return found


def _run(root: Path, program: str, *arguments: object) -> None:
    subprocess.run(
        [str(_SCRIPTS / program), *map(str, arguments), "--root", str(root)],
        check=True,
        capture_output=True,
    )


def measure(options: hour.RunOptions) -> list[str]:
    """Simulate, stream, compare; the cells of a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        incoming = root / "incoming"
        incoming.mkdir(parents=True)
        run = hour.prepare(options)
        for group in range(options.groups):
            run.write(incoming, group)
        catalogues.save(root, run.sky.catalogue("nvss"))
        begun = time.monotonic()
        _run(
            root,
            "dsa110-contimg-convert-stream",
            "--once",
            "--input-dir",
            incoming,
            "--output-dir",
            root / "ms",
        )
        converting_s = time.monotonic() - begun
        shutil.rmtree(incoming)
        begun = time.monotonic()
        _run(root, "dsa110-contimg-streaming-mosaic", "--once")
        seconds = converting_s + time.monotonic() - begun
        return [*_compare(root, run), f"{seconds:.0f}"]


def _compare(root: Path, run: hour.Run) -> list[str]:
    published = [
        path
        for path in (root / "products" / "mosaics").glob("mosaic_*.fits")
        if path.stem.count("_") == 2
    ]
    if not published:
        done = subprocess.run(
            [str(_SCRIPTS / "dsa110-contimg"), "status", "--json", "--root", str(root)],
            capture_output=True,
            text=True,
            check=True,
        )
        states = json.loads(done.stdout)["mosaics"]
        return [", ".join(states) or "none", *[""] * 8]
    (path,) = published
    image = read_fits(path)
    noise = read_fits(path.with_name(f"{path.stem}_rms.fits")).pixels
    sky = run.sky
    points = ~sky.resolved
    true_jy = run.sky.model().spectra_jy(np.array([image.frequency_hz]))[:, 0]
    found = against_truth(
        image, noise, sky.ra_deg[points], sky.dec_deg[points], true_jy[points], _MIN_FLUX_JY
    )
    (listed,) = (root / "products" / "catalogues").glob("*_sources.fits")
    table = Table.read(listed, hdu=1)
    strong = np.asarray(table["peak_jy"] > _STRONG_SIGMA * table["peak_error_jy"])
    place = np.asarray(table["ra_deg"])[strong], np.asarray(table["dec_deg"])[strong]
    match = matching.nearest(
        *place, sky.ra_deg, sky.dec_deg, np.full(int(strong.sum()), _MATCH_ARCSEC)
    )
    seen = np.isfinite(image.pixels)
    stated = noise_over_stated(image, noise, sky.ra_deg, sky.dec_deg, true_jy, sky.shapes)
    area = float(np.count_nonzero(seen)) * np.rad2deg(image.cell_rad) ** 2
    return [
        "yes",
        f"{found.compared.sum()}",
        f"{found.median_ratio:.4f}",
        f"{found.scatter:.4f}",
        f"{found.median_offset_arcsec:.2f}",
        f"{1e3 * robust_rms(image.pixels[seen]):.3f}",
        f"{stated:.3f}",
        f"{area:.1f}",
        f"{(match.index >= 0).mean():.3f}",
    ]


def main() -> int:
    """Print a table."""
    known = lines()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="lines of the table; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--full-size", action="store_true", help="96 antennas and 768 channels")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(known))
    if unknown:
        parser.error(f"no line {', '.join(unknown)}; there are {', '.join(known)}")
    titles = (
        "trouble",
        "seed",
        "published",
        "sources",
        "flux density / truth",
        "scatter",
        "position (arcsec)",
        "rms (mJy)",
        "noise / stated",
        "area (deg2)",
        "reliability",
        "seconds",
    )
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for name in given.names or known:
        for seed in given.seeds:
            options = replace(known[name], seed=seed)
            if given.full_size:
                options = replace(options, antennas=96, channels=48)
            cells = measure(options)
            print(f"| {' | '.join((name, str(seed), *cells))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
