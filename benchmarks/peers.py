"""Other programs on our Measurement Sets: WSClean's image, xradio's schema check.

Run by `make peers`. Simulates one tile, calibrates it, and asks WSClean for the brightest
source; xradio is installed into an environment of its own. With CONTIMG_REAL_DATA set, the
tile is the independent sample's with 3C454.3.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry, catalogues
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.stages import graphs
from dsa110_contimg.stages.options import CalibrationSolveOptions, PipelineOptions
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import uvh5

_XRADIO = """
import sys
from xradio.measurement_set import open_msv2
from xradio.schema.check import check_datatree
issues = list(check_datatree(open_msv2(sys.argv[1])))
print("xradio schema issues:", issues or "none")
sys.exit(1 if issues else 0)
"""


def _inputs(work: Path) -> tuple[list[Path], str, tuple[float, float, float]]:
    """Sub-band files, catalogue name, and the brightest source (deg, deg, Jy at 1.4 GHz)."""
    real = os.environ.get("CONTIMG_REAL_DATA")
    if real:
        data = Path(real)
        found = catalogues.read_file(data / "nvss_50mjy.fits.gz", "nvss")
        catalogues.save(work, found)
        files = [
            path
            for path in sorted((data / "uvh5-sample").iterdir())
            if abs(uvh5.read_header(path).time_key - 2461066.4347796296) < 1e-6
        ]
        truth = json.loads((data / "uvh5-sample-truth.json").read_text())
        best = max(truth, key=lambda source: source["flux_jy"])
        return files, "nvss", (best["ra_deg"], best["dec_deg"], best["flux_jy"])
    run = hour.prepare(hour.RunOptions(groups=1, antennas=40, channels=4))
    (work / "in").mkdir()
    catalogues.save(work, run.sky.catalogue("known"))
    i = int(run.sky.flux_jy.argmax())
    return (
        run.write(work / "in", 0),
        "known",
        (float(run.sky.ra_deg[i]), float(run.sky.dec_deg[i]), float(run.sky.flux_jy[i])),
    )


def _calibrated(work: Path) -> tuple[Path, Path, Path, tuple[float, float, float]]:
    files, name, source = _inputs(work)
    options = PipelineOptions(
        calibrate=CalibrationSolveOptions(sky_catalog=name),
        apply=PipelineOptions().apply.model_copy(update={"sky_catalog": name}),
        image=PipelineOptions().image.model_copy(update={"sky_catalog": name}),
    )
    stages = graphs.from_subbands(options)[:4]
    result = PipelineOrchestrator(stages).run(
        PipelineContext(work, {"subband_files": files}, telescope=DSA110)
    )
    result.raise_on_failure()
    image = result["tile_images"][0]
    return (
        result["measurement_sets"][0].ms_path,
        result["calibrated_tiles"][0].ms_path,
        image.prefix,
        source,
    )


def _wsclean(ms: Path, work: Path, pixels: int, cell_arcsec: float) -> Path:
    subprocess.run(
        [
            "wsclean", "-quiet", "-name", str(work / "ws"), "-size", str(pixels), str(pixels),
            "-scale", f"{cell_arcsec}asec", "-weight", "briggs", "0.5", "-niter", "3000",
            "-mgain", "0.6", "-auto-mask", "5", "-auto-threshold", "1.5", "-pol", "I",
            "-no-update-model-required", str(ms),
        ],
        check=True,
    )  # fmt: skip
    return work / "ws-image.fits"


def main() -> int:
    """Compare, print, and return 0 if all agree."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw, ms, prefix, (ra, dec, jansky) = _calibrated(work)
        ours = read_fits(prefix.with_name(f"{prefix.name}.image.fits"))
        beam = read_fits(prefix.with_name(f"{prefix.name}.pb.fits"))
        x, y = ours.wcs.all_world2pix(ra, dec, 0)
        response = float(beam.pixels[round(float(y)), round(float(x))])
        images = {"this pipeline": ours}
        if shutil.which("wsclean"):
            images["WSClean"] = read_fits(_wsclean(ms, work, 2048, 4.0))
        else:
            print("WSClean is not installed (Debian: wsclean): left out")
        for name, image in images.items():
            noise = np.full(image.pixels.shape, 1e-3)
            found = measure_at(image, noise, np.array([ra]), np.array([dec]))
            ratio = float(found.peak_jy[0]) / response / jansky
            offset = (
                float(np.hypot(found.offset_east_rad[0], found.offset_north_rad[0]))
                / astrometry.ARCSEC_RAD
            )
            print(f"{name:14} flux / truth {ratio:.4f}   distance {offset:.2f} arcsec")
            good &= abs(ratio - 1) < 0.03 and offset < 2.0
        environment = work / "xradio"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "xradio[casacore]"], check=True
        )
        for table in (raw, ms):
            done = subprocess.run([str(python), "-c", _XRADIO, str(table)], check=False)
            good &= done.returncode == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
