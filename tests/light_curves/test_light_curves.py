"""Light curves tell the truth: of what varies, comes and goes, and of what stays."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sqlalchemy import select
from typer.testing import CliRunner

from dsa110_contimg.artifacts.mosaics import Crossmatch, MosaicImage, PublishedMosaic
from dsa110_contimg.artifacts.tiles import ImagedTiles
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.pipeline.context import PipelineContext, StageContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator, PipelineResult
from dsa110_contimg.registry import light_curves
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import MeasuredImage, Measurement, Source
from dsa110_contimg.registry.sources import source_name
from dsa110_contimg.settings import Settings
from dsa110_contimg.sky import catalogues, matching
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.sources import forced
from dsa110_contimg.sources.behaviour import Behaviour
from dsa110_contimg.sources.epoch_scale import epoch_scale
from dsa110_contimg.sources.variability import variability
from dsa110_contimg.stage_options import PipelineOptions, ValidationOptions
from dsa110_contimg.stages import graphs
from skies import BEAM, CELL, RMS, Sky, imaged_tile

pytestmark = pytest.mark.xdist_group("days")
DAY_S = 86164.1
TILE_S = 309.0
N_CONSTANT, N_VARIABLE, N_TRANSIENT, N_VANISHING = 283, 12, 3, 2
KINDS = {
    "constant": slice(0, N_CONSTANT),
    "variable": slice(N_CONSTANT, N_CONSTANT + N_VARIABLE),
    "transient": slice(N_CONSTANT + N_VARIABLE, N_CONSTANT + N_VARIABLE + N_TRANSIENT),
    "vanishing": slice(N_CONSTANT + N_VARIABLE + N_TRANSIENT, None),
}
CENTRES = [(40.0 + 0.6 * number, 20.0) for number in range(7)]


class Days:
    """Three days of one strip, through stages 5 to 9."""

    def __init__(self, root: Path):
        rng = np.random.default_rng(11)
        n = N_CONSTANT + N_VARIABLE + N_TRANSIENT + N_VANISHING
        self.place = _apart(rng, n)
        mean = RMS * rng.uniform(6, 100, n)
        mean[KINDS["variable"]] = RMS * np.linspace(10, 30, N_VARIABLE)
        # The brightest source of its tile varies too.
        brightest = KINDS["variable"].start
        mean[brightest] = 1.0
        self.flux = np.repeat(mean[None], 3, axis=0)
        pattern = np.array([[1, -1.2, 0.2], [-1.1, 0.1, 1], [0.3, 1, -1.3]])
        pattern /= pattern.std(axis=1, keepdims=True)
        for k, i in enumerate(range(*KINDS["variable"].indices(n))):
            modulation = 0.3 + 0.2 * k / (N_VARIABLE - 1)
            self.flux[:, i] *= 1 + modulation * pattern[k % 3]
        transient = KINDS["transient"]
        self.flux[:, transient] = 0.0
        for k, i in enumerate(range(*transient.indices(n))):
            self.flux[k, i] = RMS * (9, 12, 15)[k]
        vanishing = KINDS["vanishing"]
        self.flux[:, vanishing] = RMS * np.array([12, 20])
        self.flux[2, vanishing] = 0.0
        listed = np.ones(n, bool)
        listed[transient] = False
        order = np.flatnonzero(listed)[np.argsort(self.place[1][listed])]
        catalogues.save(
            root, Catalogue("known", 1.4e9, self.place[0][order], self.place[1][order], mean[order])
        )
        self.root = root
        self.results = [self._day(day) for day in range(3)]

    def _day(self, day: int) -> PipelineResult:
        """One day: a flux scale that is 3 % off, as calibration leaves it."""
        folder = self.root / "images" / f"day{day}"
        sky = Sky(*self.place, self.flux[day] * (1.0, 1.03, 0.97)[day])
        start = 1769378721.0 + day * DAY_S
        tiles = tuple(
            imaged_tile(
                folder,
                f"2026012{5 + day}T22{number:02d}00",
                start + 309 * number,
                centre,
                sky,
                100 * day + number,
                self.root,
                "known",
            )
            for number, centre in enumerate(CENTRES)
        )
        options = PipelineOptions(
            validate=ValidationOptions(sky_catalog="known"),
            crossmatch=PipelineOptions().crossmatch.model_copy(update={"sky_catalog": "known"}),
        )
        context = PipelineContext(self.root, [ImagedTiles(tuple(tiles))])
        result = PipelineOrchestrator(graphs.from_images(options)).run(context)
        return result.raise_on_failure()

    def registry(self) -> Registry:
        return Registry.of(Settings(root=self.root))

    def sources(self) -> list[Source]:
        with self.registry().read() as session:
            return list(session.scalars(select(Source).order_by(Source.id)))

    def known(self, kind: str) -> list[Source]:
        """The database's sources at the places of a kind."""
        rows = self.sources()
        match = matching.nearest(
            self.place[0][KINDS[kind]],
            self.place[1][KINDS[kind]],
            np.array([row.ra_deg for row in rows]),
            np.array([row.dec_deg for row in rows]),
            15.0,
        )
        return [rows[i] for i in match.index if i >= 0]


def _apart(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Random places within the tiles' half-power beams, two arcminutes apart at least."""
    found: list[tuple[float, float]] = []
    while len(found) < n:
        ra, dec = rng.uniform(39.8, 43.8), rng.uniform(19.55, 20.45)
        if all(np.hypot((ra - a) * 0.94, dec - b) > 2 / 60 for a, b in found):
            found.append((ra, dec))
    ra_deg, dec_deg = np.array(found).T
    return ra_deg, dec_deg


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    return Days(tmp_path_factory.mktemp("days"))


def test_what_varies_comes_and_goes_is_found_and_nothing_else(days: Days) -> None:
    assert [r[PublishedMosaic].published for r in days.results] == [True] * 3
    behaviour = {kind: [row.behaviour for row in days.known(kind)] for kind in KINDS}
    assert behaviour["variable"] == [Behaviour.VARIABLE] * N_VARIABLE
    assert behaviour["transient"] == [Behaviour.TRANSIENT] * N_TRANSIENT
    assert behaviour["vanishing"] == [Behaviour.VANISHED] * N_VANISHING
    remarkable = [row for row in days.sources() if row.behaviour != Behaviour.CONSTANT]
    assert len(remarkable) <= N_VARIABLE + N_TRANSIENT + N_VANISHING + 1
    assert len(days.known("constant")) == N_CONSTANT


def test_light_curves_of_constant_sources_are_constant_within_their_errors(days: Days) -> None:
    eta = np.array([row.eta for row in days.known("constant")])
    assert 0.8 < eta.mean() < 1.2
    with days.registry().read() as session:
        ids = [row.id for row in days.known("constant")]
        curves = light_curves.light_curves(session, ids)
        scales = dict(session.execute(select(MeasuredImage.name, MeasuredImage.scale)).all())
    deviation = np.concatenate(
        [
            (curves[i].flux_jy - flux) / curves[i].error_jy
            for i, flux in zip(ids, days.flux[0, KINDS["constant"]], strict=True)
        ]
    )
    assert abs(np.median(deviation)) < 0.3, "no bias"
    assert list(scales.values()) == pytest.approx([1.0] * len(scales), abs=0.015)


def test_a_transient_has_upper_limits_before_and_after(days: Days) -> None:
    for k, row in enumerate(days.known("transient")):
        with days.registry().read() as session:
            curve = light_curves.light_curves(session, [row.id])[row.id]
            tiles = light_curves.light_curves(session, [row.id], light_curves.TILE)[row.id]
        assert curve.flux_jy.size == 3
        snr = curve.flux_jy / curve.error_jy
        assert snr.argmax() == k
        assert np.sort(snr)[1] < 3.5
        assert row.origin == "detected"
        assert len(tiles.image) >= 1


def test_measuring_again_changes_nothing(days: Days) -> None:
    from dsa110_contimg.sources.options import CrossmatchOptions
    from dsa110_contimg.stages.crossmatch import CrossmatchStage

    def everything() -> tuple[list[object], ...]:
        with days.registry().read() as session:
            return tuple(
                [tuple(row) for row in session.execute(select(*table.__table__.columns))]
                for table in (Source, MeasuredImage, Measurement)
            )

    before = everything()
    stage = CrossmatchStage(CrossmatchOptions(sky_catalog="known"))
    stage.run(StageContext(days.root), days.results[2][PublishedMosaic])
    assert everything() == before


class Overlapping:
    """Two published mosaics of one night that share two tiles, and nothing varies."""

    def __init__(self, root: Path):
        rng = np.random.default_rng(4)
        self.root, self.place = root, _apart(rng, 60)
        self.flux = RMS * rng.uniform(8, 60, 60)
        order = np.argsort(self.place[1])
        listed = Catalogue("known", 1.4e9, *(a[order] for a in (*self.place, self.flux)))
        catalogues.save(root, listed)
        self.start = 1769378721.0 + TILE_S * np.arange(len(CENTRES))
        sky = Sky(*self.place, self.flux)
        tiles = [
            imaged_tile(
                root / "images" / "night",
                f"20260125T22{number:02d}00",
                start,
                centre,
                sky,
                number,
                root,
                "known",
            )
            for number, (start, centre) in enumerate(zip(self.start, CENTRES, strict=True))
        ]
        options = PipelineOptions(
            validate=ValidationOptions(sky_catalog="known"),
            crossmatch=PipelineOptions().crossmatch.model_copy(update={"sky_catalog": "known"}),
        )
        self.names = []
        for some in (tiles[:5], tiles[3:]):
            context = PipelineContext(root, [ImagedTiles(tuple(some))])
            result = PipelineOrchestrator(graphs.from_images(options)).run(context)
            self.names.append(result.raise_on_failure()[PublishedMosaic].name)

    def curves(self) -> dict[str, light_curves.LightCurve]:
        """Light curves by the name of their source."""
        with Registry.of(Settings(root=self.root)).read() as session:
            names = dict(session.execute(select(Source.id, Source.name)).all())
            found = light_curves.light_curves(session, list(names))
        return {names[source_id]: curve for source_id, curve in found.items()}

    def sources(self) -> dict[str, Source]:
        with Registry.of(Settings(root=self.root)).read() as session:
            return {row.name: row for row in session.scalars(select(Source))}


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> Overlapping:
    return Overlapping(tmp_path_factory.mktemp("overlapping"))


def test_an_observation_in_two_mosaics_is_one_epoch_at_its_own_time(
    overlapping: Overlapping,
) -> None:
    sources = overlapping.sources()
    centres = np.array([ra for ra, _ in CENTRES])
    images = set()
    for name, curve in overlapping.curves().items():
        (observed,), (image,) = curve.observed, curve.image
        # The sky drifts through the beam: right ascension tells when.
        transit = np.interp(sources[name].ra_deg, centres, overlapping.start + TILE_S / 2)
        assert abs(observed - transit) < TILE_S
        images.add(image)
        assert sources[name].n_epochs == 1
        assert sources[name].behaviour == Behaviour.UNKNOWN
        assert sources[name].eta is None
    assert images == set(overlapping.names)


def test_a_mosaic_that_is_held_leaves_the_light_curves(
    overlapping: Overlapping, tmp_path: Path
) -> None:
    root = tmp_path / "copied"
    shutil.copytree(overlapping.root, root)
    first, second = overlapping.names
    held = CliRunner().invoke(app, ["hold", first, "--reason", "test", "--root", str(root)])
    assert held.exit_code == 0, held.output
    before, after = overlapping.curves(), Overlapping.curves(_at(overlapping, root))
    assert {curve.image for curve in after.values()} == {(second,)}
    only_there = {name for name, curve in before.items() if curve.image == (first,)}
    kept = Overlapping.sources(_at(overlapping, root))
    west = [kept[name] for name in only_there & kept.keys() if kept[name].ra_deg < CENTRES[1][0]]
    assert west
    assert all(row.n_epochs == 0 and row.behaviour == Behaviour.UNKNOWN for row in west)
    with Registry.of(Settings(root=root)).read() as session:
        left = set(session.scalars(select(MeasuredImage.name)))
    assert left == {second, *(f"20260125T22{number:02d}00" for number in range(3, 7))}


def _at(night: Overlapping, root: Path) -> Overlapping:
    copied = copy.copy(night)
    copied.root = root
    return copied


@pytest.mark.parametrize("n", [12, 40])
def test_a_steady_source_stays_constant_however_few_sources_give_the_scale(n: int) -> None:
    """Six nights of a 6 Jy source among weak ones, some of which vary."""
    rng = np.random.default_rng(n)
    pulls = []
    for _ in range(200):
        true = np.append(RMS * rng.uniform(12, 60, n), 6.0)
        noise = np.full(n + 1, RMS)
        varied = true * np.where(rng.random(n + 1) < 0.1, rng.uniform(0.7, 1.4, n + 1), 1.0)
        varied[-1] = true[-1]
        night = varied * (1 + 0.003 * rng.normal(size=n + 1)) + noise * rng.normal(size=n + 1)
        found = epoch_scale(night, noise, true, np.full(n + 1, RMS / np.sqrt(5)))
        steady = night[-1] / found.scale
        pulls.append((steady / true[-1] - 1) / np.hypot(found.error, noise[-1] / steady))
    assert np.std(pulls) < 1.1
    assert np.max(np.abs(pulls)) < 5


def test_an_epoch_that_is_off_is_put_right_with_its_error() -> None:
    rng = np.random.default_rng(2)
    true = RMS * rng.uniform(20, 100, 60)
    noise = np.full(60, RMS)
    found = [
        epoch_scale(0.93 * true + noise * rng.normal(size=60), noise, true, noise / 4)
        for _ in range(50)
    ]
    scales = np.array([one.scale for one in found])
    assert scales.mean() == pytest.approx(0.93, abs=0.003)
    assert all(one.error < 0.02 for one in found)


def test_too_few_sources_give_no_scale_but_an_error() -> None:
    few = epoch_scale(np.full(5, 1.2), np.full(5, 0.01), np.ones(5), np.full(5, 0.01))
    assert few.scale == 1.0
    assert few.error > 0


def test_forced_fluxes_of_near_neighbours_are_told_apart() -> None:
    """Pairs of hardly more than half a beam; errors are those of the truth."""
    rng = np.random.default_rng(5)
    geometry = Image(
        np.zeros((600, 600), np.float32),
        (0.7, 0.35),
        (300.0, 300.0),
        CELL,
        "TAN",
        BEAM,
        "Jy/beam",
        1.4e9,
    )
    x, y = (
        grid.ravel() + rng.uniform(-3, 3, grid.size)
        for grid in np.meshgrid(np.arange(30.0, 580, 30), np.arange(30.0, 580, 30))
    )
    pairs = np.arange(x.size) % 3 == 0
    angle = rng.uniform(0, 2 * np.pi, x.size)[pairs]
    x = np.concatenate([x, x[pairs] + 2.6 * np.cos(angle)])
    y = np.concatenate([y, y[pairs] + 2.6 * np.sin(angle)])
    flux = rng.uniform(0.0, 0.2, x.size)
    q = BEAM.quadratic_form(CELL)
    rows, columns = np.indices(geometry.pixels.shape)
    noise = ndimage.gaussian_filter(rng.normal(size=rows.shape), 1.7 * np.array([1, 1]))
    pixels = RMS / noise.std() * noise
    for a, b, jansky in zip(x, y, flux, strict=True):
        box = np.s_[int(b) - 16 : int(b) + 17, max(int(a) - 16, 0) : int(a) + 17]
        dx, dy = columns[box] - a, rows[box] - b
        pixels[box] += jansky * np.exp(-(q[0, 0] * dx**2 + 2 * q[0, 1] * dx * dy + q[1, 1] * dy**2))
    ra, dec = geometry.wcs.all_pix2world(x, y, 0)
    found = forced.measure(
        replace(geometry, pixels=pixels.astype(np.float32)), np.full(rows.shape, RMS), ra, dec
    )
    assert np.isfinite(found.flux_jy).all()
    deviation = (found.flux_jy - flux) / found.error_jy
    assert abs(deviation.mean()) < 0.2
    assert 0.8 < deviation.std() < 1.25
    assert found.error_jy.max() > 1.05 * RMS, "neighbours cost accuracy"


def test_of_two_positions_within_half_a_beam_the_first_is_measured() -> None:
    geometry = Image(
        np.full((100, 100), 0.1, np.float32),
        (0.7, 0.35),
        (50.0, 50.0),
        CELL,
        "TAN",
        BEAM,
        "Jy/beam",
        1.4e9,
    )
    ra, dec = geometry.wcs.all_pix2world([50, 51, 2], [50, 50, 50], 0)
    found = forced.measure(geometry, np.full((100, 100), RMS), ra, dec)
    assert np.isfinite(found.flux_jy).tolist() == [True, False, False], "near, and at the edge"


@pytest.mark.parametrize(
    ("snr", "behaviour"),
    [
        ([10.0, 10.5, 9.2, 10.1], Behaviour.CONSTANT),
        ([10.0, 20.0, 9.2, 10.1], Behaviour.VARIABLE),
        ([0.5, 12.0, -1.0, 0.3], Behaviour.TRANSIENT),
        ([12.0, 11.0, 12.5, 0.3], Behaviour.VANISHED),
        ([12.0, 0.1, 0.5], Behaviour.TRANSIENT),
        ([12.0], Behaviour.UNKNOWN),
    ],
)
def test_behaviour_in_one_word(snr: list[float], behaviour: Behaviour) -> None:
    assert variability(np.array(snr), np.ones(len(snr))).behaviour(catalogued=False) == behaviour


def test_what_a_catalogue_has_and_one_epoch_saw_has_vanished() -> None:
    once = variability(np.array([12.0, 0.1, 0.5]), np.ones(3))
    assert once.behaviour(catalogued=True) == Behaviour.VANISHED


def test_measures_of_variability_are_those_of_the_papers() -> None:
    flux, error = np.array([1.0, 2.0, 1.5]), np.array([0.1, 0.2, 0.1])
    found = variability(flux, error)
    assert found.modulation == pytest.approx(0.5 / 1.5)
    w = error**-2
    n = 3
    eta = n / (n - 1) * (np.mean(w * flux**2) - np.mean(w * flux) ** 2 / np.mean(w))
    assert found.eta == pytest.approx(eta)
    assert found.largest_pair_sigma == pytest.approx(1.0 / np.hypot(0.1, 0.2))
    assert found.largest_pair_modulation == pytest.approx(-1.0 / 1.5)


def test_a_long_low_between_highs_is_a_candidate_for_scattering() -> None:
    steady = np.ones(12)
    steady[4:8] = 0.5
    assert variability(steady, np.full(12, 0.05)).dip
    assert not variability(steady[::-1][:8], np.full(8, 0.05)).dip, "it does not come back"
    assert not variability(np.ones(12), np.full(12, 0.05)).dip


def test_a_source_is_named_by_its_position_truncated() -> None:
    assert source_name(187.70593, 12.39112) == "DSA J123049.4+122328"
    assert source_name(0.0, -0.5) == "DSA J000000.0-003000"
    assert source_name(359.99999, 89.99999).startswith("DSA J235959.9+895959")


def test_offset_and_flux_scale_of_a_mosaic_are_told(days: Days) -> None:
    for result, scale in zip(days.results, (1.0, 1.03, 0.97), strict=True):
        match = result[Crossmatch]
        assert np.hypot(match.east_arcsec, match.north_arcsec) < 0.5
        assert match.flux_ratio == pytest.approx(1.0, abs=0.015)
        mosaic = result[MosaicImage]
        assert [one.scale for one in mosaic.scales] == pytest.approx(
            [scale] * len(CENTRES), abs=0.02
        )


def test_the_commands_find_sources_and_draw_their_light_curves(days: Days, tmp_path: Path) -> None:
    runner = CliRunner()

    def run(*arguments: object) -> str:
        done = runner.invoke(app, [*map(str, arguments), "--root", str(days.root)])
        assert done.exit_code == 0, done.output
        return done.stdout

    variable = json.loads(run("sources", "--behaviour", "variable", "--json"))
    assert len(variable) == N_VARIABLE
    assert [row["eta"] for row in variable] == sorted((r["eta"] for r in variable), reverse=True)
    one = variable[0]
    near = run("sources", "--cone", one["ra_deg"], one["dec_deg"], 0.01)
    assert near.count("DSA J") == 1
    assert one["name"] in near
    assert one["name"] in run("sources", "--name", one["name"][6:12], "--min-eta", 2)
    assert "DSA J" not in run("sources", "--dips")
    (transient, *_) = days.known("transient")
    text = run("lightcurve", transient.name.removeprefix("DSA "))
    title, header, *rows = text.splitlines()
    assert title == f"{transient.name}: transient, {len(rows)} epochs"
    for name in ("observed (UTC)", "MJD", "flux density (mJy)", "upper limit (mJy)"):
        assert name in header
    limits = [row.split()[5] for row in rows]
    assert len(limits) - limits.count("-") == 2
    for name, begin in (("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.pdf", b"%PDF")):
        run("lightcurve", transient.id, "--plot", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begin)
    few = runner.invoke(app, ["sources", "--limit", "2", "--root", str(days.root)])
    assert "2 of " in few.stderr
    assert len(few.stdout.splitlines()) == 3
    tiles = json.loads(run("lightcurve", one["name"], "--tiles", "--json"))["epochs"]
    assert len(tiles) >= 3
    missing = runner.invoke(app, ["lightcurve", "DSA J0", "--root", str(days.root)])
    assert missing.exit_code == 2 or isinstance(missing.exception, UsageError)
