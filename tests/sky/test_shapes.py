"""Sources that are no points: catalogues tell their sizes, models and photometry use them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from typer.testing import CliRunner

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.cli.main import app
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.troubles import Troubles
from dsa110_contimg.sky import astrometry, catalogue_import, catalogues
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.options import ImportOptions
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.sources import forced
from dsa110_contimg.sources.comparison import against_catalogue
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

ARCSEC = ARCSEC_RAD
LIMITS = SolveOptions(uv_min_lambda=0.0)


def _shapes(*rows: tuple[float, float, float]) -> Shapes:
    """Rows of major and minor axis (arcsec) and position angle (deg)."""
    major, minor, angle = np.array(rows).T
    return Shapes(major * ARCSEC, minor * ARCSEC, np.deg2rad(angle))


@pytest.fixture(scope="module")
def run() -> hour.Run:
    options = hour.RunOptions(
        groups=1,
        antennas=32,
        channels=2,
        integrations=8,
        rfi=0.0,
        noise=False,
        troubles=Troubles(extended=12, extended_arcsec=60.0),
    )
    return hour.prepare(options)


@pytest.fixture(scope="module")
def vis(run: hour.Run, tmp_path_factory: pytest.TempPathFactory) -> Visibilities:
    files = run.write(tmp_path_factory.mktemp("extended"), 0)
    return conversion.read_observation(tuple(files), DSA110).vis


def _gaussian_of_points(centre: SkyCoord, major: float, minor: float, angle: float) -> SkyModel:
    """A Gaussian of 1 Jy as a grid of points; axes in arcsec, angle in degrees."""
    step = np.linspace(-2.2, 2.2, 45)
    along, across = (part.ravel() for part in np.meshgrid(step * major, step * minor))
    flux = np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    turn = np.deg2rad(angle)
    east = along * np.sin(turn) + across * np.cos(turn)
    north = along * np.cos(turn) - across * np.sin(turn)
    places = centre.directional_offset_by(
        np.arctan2(east, north) * units.rad, np.hypot(east, north) * units.arcsec
    )
    directions = astrometry.radec_to_vector(places.ra.rad, places.dec.rad)
    return SkyModel(directions, flux / flux.sum(), np.zeros(flux.size), 1.4e9)


@pytest.mark.parametrize("channel_mhz", [0.244, 5.86])
def test_a_gaussian_is_predicted_as_the_points_that_make_it_up(
    vis: Visibilities, channel_mhz: float
) -> None:
    frequencies_hz = 1.35e9 + 1e6 * channel_mhz * np.arange(20)
    empty = np.zeros((len(vis.data), 20, 2), np.complex64)
    data = replace(vis, frequencies_hz=frequencies_hz, data=empty)
    middle = SkyCoord(*np.rad2deg(vis.phase_centre_rad), unit="deg")
    centre = middle.directional_offset_by(40 * units.deg, 0.6 * units.deg)
    points = _gaussian_of_points(centre, 50.0, 20.0, 25.0)
    one = np.ones(1)
    whole = SkyModel(
        astrometry.radec_to_vector(centre.ra.rad, centre.dec.rad)[None],
        one,
        0 * one,
        1.4e9,
        _shapes((50.0, 20.0, 25.0)),
    )
    apparent = np.ones((vis.times_jd.size, 1, 20))
    made = predict.predict_apparent(data, whole.directions, apparent, shapes=whole.shapes)
    expected = predict.predict_apparent(
        data, points.directions, apparent * points.flux_jy[None, :, None]
    )
    assert np.abs(expected).min() < 0.1, "the longest baselines resolve it"
    assert np.abs(made - expected).max() < 0.01


def test_sizes_in_the_catalogue_keep_the_flux_scale(run: hour.Run, vis: Visibilities) -> None:
    truth = run.sky.model()
    near = truth.select(np.argsort(-predict.mean_apparent_jy(vis, truth))[:40])
    sky = predict.predict(vis, near)
    scales = []
    for model in (near, replace(near, shapes=POINTS)):
        copy = replace(vis, data=vis.data.copy(), flags=vis.flags.copy())
        solved = solve_reference(copy, model, LIMITS)
        copy = replace(vis, data=vis.data.copy(), flags=vis.flags.copy())
        done = calibrate_tile(copy, solved.bandpass, solved.gains, model, LIMITS).vis
        weight = np.where(done.flags, 0, done.weights)
        scales.append(
            np.sum(weight * (done.data * np.conj(sky[:, :, None])).real)
            / np.sum(weight * np.abs(sky[:, :, None]) ** 2)
        )
    assert scales[0] == pytest.approx(1.0, abs=0.005)
    assert abs(scales[1] - 1) > 0.005


def test_an_image_shows_a_gaussian_with_its_size(vis: Visibilities) -> None:
    ra, dec = np.rad2deg(vis.phase_centre_rad)
    shape = _shapes((70.0, 40.0, 120.0))
    model = SkyModel(
        astrometry.radec_to_vector(np.deg2rad(ra + 0.2), np.deg2rad(dec - 0.1))[None],
        np.array([2.0]),
        np.zeros(1),
        float(vis.frequencies_hz.mean()),
        shape,
    )
    sky = predict.predict(vis, model)
    seen = replace(vis, data=np.repeat(sky[:, :, None], 2, axis=2), flags=np.zeros_like(vis.flags))
    options = TileImageOptions(
        size=384, cell_arcsec=10.0, robust=0.5, niter=1000, auto_mask_sigma=4.0
    )
    made = image_tile(seen, model, options)
    assert np.abs(made.residual).max() < 0.002
    image = made.plane(made.apparent / made.primary_beam, seen.phase_centre_rad, "Jy/beam")
    noise = np.full(image.pixels.shape, 1e-4)
    found = forced.measure(image, noise, np.array([ra + 0.2]), np.array([dec - 0.1]), shape)
    assert found.flux_jy[0] == pytest.approx(2.0, rel=0.01)
    as_point = forced.measure(image, noise, np.array([ra + 0.2]), np.array([dec - 0.1]))
    assert as_point.flux_jy[0] < 1.5


def test_shapes_are_those_of_their_second_moments() -> None:
    shapes = _shapes((70.0, 40.0, 120.0), (30.0, 30.0, 0.0), (50.0, 0.0, 10.0), (0.0, 0.0, 0.0))
    again = Shapes.of_covariances_rad2(shapes.covariances_rad2())
    assert again.major_rad == pytest.approx(shapes.major_rad)
    assert again.minor_rad == pytest.approx(shapes.minor_rad, abs=1e-9)
    assert np.rad2deg(again.angle_rad[[0, 2]]) == pytest.approx([120.0, 10.0])


def _image_of(vis: Visibilities, truth: SkyModel, model: SkyModel) -> TileImage:
    """Image of noisy data of one sky, made with a model of another."""
    noise = np.random.default_rng(5).normal(0, 0.3, (*vis.data.shape, 2)) @ [1, 1j]
    data = (predict.predict(vis, truth)[:, :, None] + noise).astype(np.complex64)
    weights = np.full(data.shape, 1 / 0.3**2, np.float32)
    seen = replace(vis, data=data, flags=np.zeros_like(vis.flags), weights=weights)
    options = TileImageOptions(
        size=384,
        cell_arcsec=10.0,
        robust=0.5,
        niter=2000,
        auto_mask_sigma=5.0,
        auto_threshold_sigma=3.0,
    )
    return image_tile(seen, model, options)


@pytest.mark.parametrize("axes", [(70.0, 40.0, 120.0), (40.0, 40.0, 0.0), (90.0, 10.0, 30.0)])
def test_a_source_that_the_catalogue_takes_for_a_point_keeps_its_flux_density(
    vis: Visibilities, axes: tuple[float, float, float]
) -> None:
    ra, dec = np.rad2deg(vis.phase_centre_rad)[:, None] + np.array([[0.2, -0.3], [-0.1, 0.2]])
    directions = astrometry.radec_to_vector(np.deg2rad(ra), np.deg2rad(dec))
    flux, zero = np.array([2.0, 1.5]), np.zeros(2)
    points = SkyModel(directions, flux, zero, float(vis.frequencies_hz.mean()))
    truth = replace(points, shapes=_shapes(axes, (0.0, 0.0, 0.0)))
    made = _image_of(vis, truth, points)
    assert made.fitted is not None
    assert made.fitted.flux_jy == pytest.approx(flux, rel=0.005)
    assert made.fitted.shapes.major_rad / ARCSEC == pytest.approx([axes[0], 0.0], rel=0.03)
    assert made.fitted.shapes.minor_rad / ARCSEC == pytest.approx([axes[1], 0.0], abs=4.0)


def test_a_point_beside_its_place_is_no_wide_source(vis: Visibilities) -> None:
    ra, dec = (np.array([value]) for value in vis.phase_centre_rad)
    model = SkyModel(
        astrometry.radec_to_vector(ra, dec),
        np.array([3.0]),
        np.zeros(1),
        float(vis.frequencies_hz.mean()),
    )
    moved = replace(model, directions=astrometry.radec_to_vector(ra, dec + 6 * ARCSEC))
    made = _image_of(vis, moved, model)
    assert made.fitted is not None
    assert made.fitted.shapes.each(1).major_rad[0] == 0.0


@pytest.fixture
def picture() -> Callable[..., Image]:
    """An image of Gaussians as a beam shows them, drawn without `RestoringBeam.seen`."""

    def draw(beam: RestoringBeam, sources: list[tuple[float, float, float, float, float]]) -> Image:
        """Rows of column, row, major, minor (arcsec), angle (deg); each of 1 Jy."""
        cell = 8.0
        y, x = np.mgrid[:200, :200]
        pixels = np.zeros((200, 200))
        for column, row, *shape in sources:
            moments = np.zeros((2, 2))
            for major, minor, angle in (
                shape,
                [
                    beam.major_rad / ARCSEC,
                    beam.minor_rad / ARCSEC,
                    np.rad2deg(beam.position_angle_rad),
                ],
            ):
                turn = np.deg2rad(angle)
                axes = np.array([[-np.sin(turn), np.cos(turn)], [np.cos(turn), np.sin(turn)]])
                moments += axes.T @ np.diag([major**2, minor**2]) @ axes / (8 * np.log(2))
            offset = cell * np.stack([x - column, y - row], axis=-1)
            quadratic = np.einsum("yxi,ij,yxj->yx", offset, np.linalg.inv(moments), offset)
            density = np.exp(-quadratic / 2) / (2 * np.pi * np.sqrt(np.linalg.det(moments)))
            pixels += density * beam.solid_angle_sr / ARCSEC**2
        return Image(
            pixels.astype(np.float32),
            (np.deg2rad(40.0), np.deg2rad(20.0)),
            (100.0, 100.0),
            cell * ARCSEC,
            "SIN",
            beam,
            "Jy/beam",
            1.4e9,
        )

    return draw


def test_photometry_knows_sizes_and_neighbours(picture: Callable[..., Image]) -> None:
    beam = RestoringBeam(55 * ARCSEC, 39 * ARCSEC, np.deg2rad(104.0))
    rows = [
        (60.0, 60.0, 60.0, 20.0, 30.0),
        (64.3, 66.0, 0.0, 0.0, 0.0),
        (140.0, 120.0, 90.0, 50.0, 100.0),
        (100.0, 150.0, 0.0, 0.0, 0.0),
    ]
    image = picture(beam, rows)
    ra, dec = image.wcs.all_pix2world([r[0] for r in rows], [r[1] for r in rows], 0)
    shapes = _shapes(*(row[2:] for row in rows))
    noise = np.full(image.pixels.shape, 0.01)
    found = forced.measure(image, noise, ra, dec, shapes)
    assert found.flux_jy == pytest.approx(1.0, abs=0.01)
    peak = image.pixels[120, 140]
    assert found.error_jy[2] == pytest.approx(0.01 / peak, rel=0.02)
    assert found.error_jy[3] == pytest.approx(0.01, rel=1e-6)
    catalogue = Catalogue(
        "known",
        1.4e9,
        *(column[np.argsort(dec)] for column in (ra, dec, np.ones(4))),
        shapes.select(np.argsort(dec)),
    )
    checks = against_catalogue(image, noise, 1.4e9, catalogue, 0.1, 120 * ARCSEC, 0.0)
    assert [check.measured_jy for check in checks] == pytest.approx([1.0, 1.0], abs=0.02)


def test_sizes_are_read_with_their_units_and_kept(tmp_path: Path) -> None:
    table = Table(
        {
            "RA": [10.0, 11.0, 12.0],
            "DE": [5.0, 3.0, 4.0],
            "S": [100.0, 200.0, 300.0] * units.mJy,
            "maj": [0.5, 0.0, 1.0] * units.arcmin,
            "min": [0.25, 0.0, 2.0] * units.arcmin,
            "pa": [190.0, 0.0, np.nan] * units.deg,
        }
    )
    table.write(tmp_path / "survey.fits")
    columns = ImportOptions(ra="RA", dec="DE", flux="S", major="maj", minor="min", angle="pa")
    found = catalogue_import.read_file(tmp_path / "survey.fits", "mine", columns)
    catalogues.save(tmp_path, found.catalogue)
    kept = catalogues.load(tmp_path, "mine")
    assert kept.ra_deg.tolist() == [11.0, 12.0, 10.0]
    assert kept.shapes.major_rad / ARCSEC == pytest.approx([0.0, 60.0, 30.0])
    assert kept.shapes.minor_rad / ARCSEC == pytest.approx([0.0, 60.0, 15.0])
    assert np.rad2deg(kept.shapes.angle_rad) == pytest.approx([0.0, 0.0, 10.0])
    stored = catalogues.catalogue_path(tmp_path, "mine")
    again = catalogue_import.read_file(stored, "again").catalogue
    assert again.shapes.major_rad == pytest.approx(kept.shapes.major_rad)
    table["maj"].unit = "mJy"
    table.write(tmp_path / "wrong.fits")
    with pytest.raises(BadInputError, match="column maj is in mJy, which is no angle"):
        catalogue_import.read_file(tmp_path / "wrong.fits", "mine", columns)


def test_a_catalogue_without_sizes_is_one_of_points(tmp_path: Path) -> None:
    points = Catalogue("points", 1.4e9, np.array([1.0]), np.array([2.0]), np.array([3.0]))
    catalogues.save(tmp_path, points)
    assert catalogues.load(tmp_path, "points").shapes is POINTS


def test_import_takes_columns_of_sizes(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("a,d,s,x,y,p\n10,5,0.2,30,20,45\n11,6,0.2,,,\n")
    call = [
        "catalog",
        "import",
        str(tmp_path / "list.csv"),
        "--name",
        "mine",
        "--ra",
        "a",
        "--dec",
        "d",
        "--flux",
        "s",
        "--flux-unit",
        "Jy",
        "--root",
        str(tmp_path),
    ]
    done = CliRunner().invoke(app, [*call, "--major", "x"])
    assert done.exit_code != 0
    assert "together" in str(done.exception or done.output)
    done = CliRunner().invoke(app, [*call, "--major", "x", "--minor", "y", "--angle", "p"])
    assert done.exit_code == 0, done.output
    shapes = catalogues.load(tmp_path, "mine").shapes
    assert (shapes.major_rad > 0).tolist() == [True, False]
