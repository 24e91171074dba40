"""Do other programs agree? WSClean and CASA on our Measurement Sets and tables, and we on CASA's.

Run by `make peers`; needs Debian's `wsclean`. CASA and xradio are installed into environments of
their own. With CONTIMG_REAL_DATA set, the tile is the independent sample's with 3C454.3.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import peer_programs
from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, GAINS_NAME, SolvedSet
from dsa110_contimg.artifacts.tiles import (
    CalibratedTiles,
    ConvertedTiles,
    ImagedTiles,
    SubbandFiles,
)
from dsa110_contimg.calibration import delay, predict, tables
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.intervals import interpolated
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging import gridding, tile, weighting
from dsa110_contimg.imaging.image_reader import read_fits, read_map
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.sky import KnownSky
from dsa110_contimg.sky import catalogue_import, catalogues
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.stage_options import CalibrationSolveOptions, PipelineOptions
from dsa110_contimg.stages import graphs
from dsa110_contimg.tasks.sky_models import sky_model
from dsa110_contimg.visibilities import averaging, measurement_set, uvh5
from dsa110_contimg.visibilities.data import Visibilities

_XRADIO = """
import sys
from xradio.measurement_set import open_msv2
from xradio.schema.check import check_datatree
issues = list(check_datatree(open_msv2(sys.argv[1])))
print("xradio schema issues:", issues or "none")
sys.exit(1 if issues else 0)
"""
_LARGEST_DELAY_S = 5e-9
_FAINT_JY = 0.3


@dataclass(frozen=True)
class Check:
    """One comparison: what was found, and what is allowed."""

    what: str
    found: float
    most: float

    @property
    def good(self) -> bool:
        """True if the programs agree."""
        return self.found <= self.most


@dataclass(frozen=True)
class Processed:
    """One tile taken through the first four stages."""

    work: Path
    raw: Path
    calibrated: Path
    prefix: Path
    calibration_set: Path
    catalogue: Catalogue
    sources: np.ndarray
    """True right ascension and declination (deg) and flux density (Jy)."""


def process(work: Path, brightest_jy: float = np.inf) -> Processed:
    """Process one tile: a simulated sky without brighter sources, or the independent one."""
    real = os.environ.get("CONTIMG_REAL_DATA") if np.isinf(brightest_jy) else None
    if real:
        data = Path(real)
        catalogue = catalogue_import.read_file(data / "nvss_50mjy.fits.gz", "nvss").catalogue
        files = [
            path
            for path in sorted((data / "uvh5-sample").iterdir())
            if abs(uvh5.read_header(path).time_key - 2461066.4347796296) < 1e-6
        ]
        truth = json.loads((data / "uvh5-sample-truth.json").read_text())
    else:
        options = hour.RunOptions(groups=1, antennas=48, channels=8)
        sky = hour.prepare(options).sky
        if np.isfinite(brightest_jy):
            sky = _many_sources(options, brightest_jy)
        run = hour.prepare(options, sky=sky)
        (work / "in").mkdir(parents=True)
        catalogue = run.sky.catalogue("known")
        files = run.write(work / "in", 0)
        truth = json.loads(run.write_truth(work).read_text())
    catalogues.save(work, catalogue)
    update = {"sky_catalog": catalogue.name}
    defaults = PipelineOptions()
    chosen = PipelineOptions(
        calibrate=CalibrationSolveOptions(**update),
        apply=defaults.apply.model_copy(update=update),
        image=defaults.image.model_copy(update=update),
    )
    result = PipelineOrchestrator(graphs.from_subbands(chosen)[:4]).run(
        PipelineContext(work, [SubbandFiles(files)])
    )
    result.raise_on_failure()
    return Processed(
        work=work,
        raw=result[ConvertedTiles].tiles[0].ms_path,
        calibrated=result[CalibratedTiles].tiles[0].ms_path,
        prefix=result[ImagedTiles].tiles[0].prefix,
        calibration_set=result[SolvedSet].path,
        catalogue=catalogue,
        sources=np.array([[s["ra_deg"], s["dec_deg"], s["flux_jy"]] for s in truth]),
    )


def _many_sources(options: hour.RunOptions, brightest_jy: float) -> KnownSky:
    """150 sources within 0.75 deg of where the tile looks, 0.05 deg apart."""
    ra_deg, dec_deg = hour.pointing_deg(options)
    rng = np.random.default_rng(2)
    placed: list[tuple[float, float]] = []
    while len(placed) < 150:
        x, y = rng.uniform(-0.75, 0.75, 2)
        if all(np.hypot(x - a, y - b) > 0.05 for a, b in placed):
            placed.append((x, y))
    east, north = np.array(placed).T
    flux = rng.uniform(0.1 * brightest_jy, brightest_jy, east.size)
    return KnownSky(ra_deg + east / np.cos(np.deg2rad(dec_deg)), dec_deg + north, flux, flux)


def check_casa(done: Processed) -> Iterator[Check]:
    """CASA applies our K, B and G tables; we apply CASA's."""
    vis = measurement_set.read(done.raw)
    bandpass = tables.read(done.calibration_set / BANDPASS_NAME)
    gains = tables.read(done.calibration_set / GAINS_NAME)
    rng = np.random.default_rng(1)
    shape = gains.gains.values.shape
    delays = tables.DelayTable(
        rng.uniform(-_LARGEST_DELAY_S, _LARGEST_DELAY_S, shape),
        np.zeros(shape, bool),
        gains.times_s,
        gains.interval_s,
        gains.antenna_names,
        float(vis.frequencies_hz.mean()),
        gains.reference_antenna,
    )
    ours = {"our.k": delays, "our.b": bandpass, "our.g": gains}
    for name, table in ours.items():
        if isinstance(table, tables.DelayTable):
            tables.write_delays(done.work / name, table, done.raw)
        else:
            tables.write(done.work / name, table, done.raw)
    copy = done.work / "casa.ms"
    shutil.copytree(done.raw, copy)
    catalogue_model = predict.predict(vis, _model(done, vis))
    peer_programs.give_model(copy, catalogue_model)
    # Its default fills flagged channels from their neighbours; we flag them.
    apply = {
        "vis": str(copy),
        "flagbackup": False,
        "applymode": "calflag",
        "interp": ["linear", "linear,linearflag", "linear"],
    }
    peer_programs.casa(done.work, ("applycal", {**apply, "gaintable": list(ours)}))
    yield _difference("CASA applies our K, B, G", copy, _apply(vis, delays, bandpass, gains), 1e-4)

    shutil.rmtree(copy)
    shutil.copytree(done.raw, copy)
    peer_programs.give_model(copy, catalogue_model)
    solve = {"vis": str(copy), "refant": gains.reference_antenna, "minblperant": 4}
    peer_programs.casa(
        done.work,
        ("gaincal", {**solve, "caltable": "its.k", "gaintype": "K", "solint": "inf"}),
        ("bandpass", {**solve, "caltable": "its.b", "solint": "inf", "gaintable": ["its.k"]}),
        (
            "gaincal",
            {
                **solve,
                "caltable": "its.g",
                "solint": "60s",
                "calmode": "ap",
                "gaintable": ["its.k", "its.b"],
            },
        ),
        ("applycal", {**apply, "gaintable": ["its.k", "its.b", "its.g"]}),
    )
    theirs = _apply(
        vis,
        tables.read_delays(done.work / "its.k"),
        tables.read(done.work / "its.b"),
        tables.read(done.work / "its.g"),
    )
    yield _difference("we apply CASA's K, B, G", copy, theirs, 1e-4)


def _model(done: Processed, vis: Visibilities) -> SkyModel:
    return sky_model(vis, done.work, CalibrationSolveOptions(sky_catalog=done.catalogue.name))


def _apply(
    vis: Visibilities, delays: tables.DelayTable, *others: tables.CalibrationTable
) -> Visibilities:
    """Apply tables, gains linear in time between solutions, bandpass as it is."""
    slopes = delay.delay_gains(
        delays.delays_s, delays.flags, vis.frequencies_hz, delays.reference_hz
    )
    solved = [(slopes, delays.times_s), *((table.gains, table.times_s) for table in others)]
    return apply_gains(
        vis,
        *(interpolated(gains, middles, vis.times_s, False) for gains, middles in solved),
        interval=vis.time_index,
    )


def _difference(what: str, ms: Path, ours: Visibilities, most: float) -> Check:
    theirs = measurement_set.read(ms, "CORRECTED_DATA")
    both = ~theirs.flags & ~ours.flags
    if np.mean(theirs.flags != ours.flags) > 1e-3 or not both.any():
        return Check(f"{what}: share of flags that differ", np.mean(theirs.flags != ours.flags), 0)
    scale = np.median(np.abs(ours.data[both]))
    return Check(what, float(np.abs(theirs.data - ours.data)[both].max() / scale), most)


def _as_wsclean_weighs(vis: Visibilities) -> Visibilities:
    """The same data with WSClean's weights of total intensity: the lower of both hands'.

    Ours are inverse variances, which is better by a few per cent and not the same image.
    """
    lower = vis.weights.min(axis=2, keepdims=True)
    return replace(vis, weights=np.repeat(lower, vis.data.shape[2], axis=2))


def check_dirty(done: Processed) -> Iterator[Check]:
    """Dirty images without averaging, natural weights, the same gridding algorithm."""
    vis = _as_wsclean_weighs(measurement_set.read(done.calibrated))
    size, cell_rad = 1024, 8 * ARCSEC_RAD
    samples = averaging.stokes_i_samples(vis, vis.flags, 0.5 * size * cell_rad, 0.0)
    weights = weighting.imaging_weights(
        samples.uvw_lambda, samples.weights, size, cell_rad, "natural", 0.0, 0.0
    )
    ours = gridding.dirty_image(samples, samples.values, weights, size, cell_rad)
    prefix = done.work / "dirty"
    peer_programs.wsclean(
        done.calibrated,
        prefix,
        size,
        cell_rad / ARCSEC_RAD,
        "-weight",
        "natural",
        "-use-wgridder",
        "-niter",
        "0",
    )
    theirs = read_map(Path(f"{prefix}-dirty.fits")).pixels
    yield Check(
        "dirty image as WSClean's, of the peak",
        float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
        1e-3,
    )


def check_restored(done: Processed) -> Iterator[Check]:
    """Flux densities and noise of restored images, averaging off and on.

    The sky has no source so bright that its drift would decide about the noise, and both restore
    with the same beam: each fits another one to a psf that is no Gaussian.
    """
    faint = process(done.work / "faint", _FAINT_JY)
    vis = measurement_set.read(faint.calibrated)
    size, cell_rad = 1600, 3.75 * ARCSEC_RAD
    options = TileImageOptions(
        size=size,
        cell_arcsec=cell_rad / ARCSEC_RAD,
        robust=0.5,
        averaging_loss=0.0,
        auto_mask_sigma=4.0,
    )
    first = tile.image_tile(vis, None, options.model_copy(update={"niter": 0}))
    beam = (
        f"{first.beam.major_rad / ARCSEC_RAD}asec",
        f"{first.beam.minor_rad / ARCSEC_RAD}asec",
        f"{np.rad2deg(first.beam.position_angle_rad)}deg",
    )
    prefix = done.work / "clean"
    peer_programs.wsclean(
        faint.calibrated,
        prefix,
        size,
        cell_rad / ARCSEC_RAD,
        "-weight",
        "briggs",
        "0.5",
        "-beam-shape",
        *beam,
        "-use-wgridder",
        "-niter",
        "20000",
        "-mgain",
        "0.8",
        "-auto-mask",
        "4",
        "-auto-threshold",
        "1",
    )
    theirs = read_map(Path(f"{prefix}-image.fits"))
    their_rms = robust_rms(read_map(Path(f"{prefix}-residual.fits")).pixels)
    for loss in (0.0, 0.001):
        image = tile.image_tile(vis, None, options.model_copy(update={"averaging_loss": loss}))
        name = f"averaging loss {loss:g}"
        yield Check(f"{name}: rms over WSClean's", image.rms_jy / their_rms, 1.02)
        ours = replace(theirs, pixels=image.apparent)
        noise = np.full(ours.pixels.shape, image.rms_jy)
        ra, dec, _ = faint.sources.T
        fluxes = [measure_at(one, noise, ra, dec).peak_jy for one in (ours, theirs)]
        bright = np.isfinite(fluxes[0]) & np.isfinite(fluxes[1])
        bright &= fluxes[1] > 10 * image.rms_jy
        difference = np.abs(fluxes[0] - fluxes[1])[bright]
        allowed = np.maximum((0.01 + loss) * fluxes[1][bright], 0.3 * image.rms_jy)
        share = float(np.mean(difference > allowed))
        yield Check(f"{name}: share of {bright.sum()} sources unlike WSClean's", share, 0.05)


def check_truth(done: Processed) -> Iterator[Check]:
    """The brightest source in our image and in WSClean's, against its truth."""
    ours = read_fits(done.prefix.with_name(f"{done.prefix.name}.image.fits"))
    beam = read_fits(done.prefix.with_name(f"{done.prefix.name}.pb.fits"))
    ra, dec, jansky = done.sources[done.sources[:, 2].argmax()]
    x, y = ours.wcs.all_world2pix(ra, dec, 0)
    response = float(beam.pixels[round(float(y)), round(float(x))])
    prefix = done.work / "bright"
    peer_programs.wsclean(
        done.calibrated,
        prefix,
        2048,
        4.0,
        "-weight",
        "briggs",
        "0.5",
        "-niter",
        "3000",
        "-mgain",
        "0.6",
        "-auto-mask",
        "5",
        "-auto-threshold",
        "1.5",
    )
    for name, image in (("ours", ours), ("WSClean's", read_map(Path(f"{prefix}-image.fits")))):
        noise = np.full(image.pixels.shape, 1e-3)
        found = measure_at(image, noise, np.array([ra]), np.array([dec]))
        ratio = float(found.peak_jy[0]) / response / jansky
        offset = np.hypot(found.offset_east_rad[0], found.offset_north_rad[0])
        yield Check(
            f"brightest source, {name}: flux / truth {ratio:.4f}, off", abs(ratio - 1), 0.03
        )
        yield Check(f"brightest source, {name}: arcsec from truth", float(offset) / ARCSEC_RAD, 2.0)


def check_xradio(done: Processed) -> Iterator[Check]:
    """Our Measurement Sets pass xradio's schema."""
    environment = Path(__file__).parent / ".peers" / "xradio"
    python = environment / "bin" / "python"
    if not (environment / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "xradio[casacore]"], check=True
        )
        (environment / ".installed").touch()
    for ms in (done.raw, done.calibrated):
        answer = subprocess.run([str(python), "-c", _XRADIO, str(ms)], check=False)
        yield Check(f"xradio refuses {ms.name}", answer.returncode, 0)


def main() -> int:
    """Compare, print, and return 0 if all agree."""
    if shutil.which("wsclean") is None:
        sys.exit("wsclean not found: install Debian's package of this name")
    good = True
    with tempfile.TemporaryDirectory(prefix="contimg-peers-") as folder:
        done = process(Path(folder))
        for check in (check_casa, check_dirty, check_restored, check_truth, check_xradio):
            for result in check(done):
                good &= result.good
                verdict = "ok  " if result.good else "BAD "
                print(
                    f"{verdict} {result.what}: {result.found:.3g} (at most {result.most:g})",
                    flush=True,
                )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
