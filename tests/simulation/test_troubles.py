"""The simulator's troubles are what they say, and the pipeline finds out which there are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import SmallRun, make_root, small_options
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.artifacts.tiles import SubbandFiles
from dsa110_contimg.calibration.antenna_history import find_events
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.registry.antennas import recorded_antennas
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.sky import KnownSky
from dsa110_contimg.simulation.troubles import (
    NO_TROUBLES,
    DeadHand,
    Jump,
    TroubledArray,
    Troubles,
    read_troubles,
)
from dsa110_contimg.sky.astrometry import Site
from dsa110_contimg.sky.primary_beam import power_response
from dsa110_contimg.stages import graphs
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

OPTIONS = hour.RunOptions(
    groups=2, antennas=12, channels=1, integrations=4, seed=3, rfi=0.0, noise=False
)
TILE_S = 4 * DSA110.integration_s
OFF_AXIS_DEG = 0.6
SITE = Site.of(DSA110)


@pytest.fixture(scope="module")
def sky() -> KnownSky:
    """One source, north of where the array points."""
    ra, dec = hour.pointing_deg(OPTIONS)
    flux = np.array([5.0])
    return KnownSky(np.array([ra]), np.array([dec + OFF_AXIS_DEG]), flux, flux)


def _seen(
    folder: Path, sky: KnownSky, group: int = 0, noise: bool = False, **wrong: object
) -> Visibilities:
    options = replace(OPTIONS, noise=noise, troubles=Troubles(**wrong))  # type: ignore[arg-type]
    run = hour.prepare(options, sky=sky)
    folder.mkdir(exist_ok=True)
    return conversion.read_observation(tuple(run.write(folder, group)), DSA110).vis


@pytest.fixture(scope="module")
def ideal(tmp_path_factory: pytest.TempPathFactory, sky: KnownSky) -> list[Visibilities]:
    folder = tmp_path_factory.mktemp("ideal")
    return [_seen(folder / str(group), sky, group) for group in range(2)]


def _rows(vis: Visibilities, name: str) -> np.ndarray:
    index = vis.array.names.index(name)
    return np.asarray((vis.antenna1 == index) | (vis.antenna2 == index))


def _names(vis: Visibilities) -> list[str]:
    return [vis.array.names[a] for a in vis.antennas_present()]


def test_nothing_wrong_is_the_ideal_instrument(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    assert hour.prepare(OPTIONS).observatory.troubled is None
    vis = _seen(tmp_path, sky, refraction_arcsec=1e-9)
    assert np.abs(vis.data - ideal[0].data).max() < 1e-4 * np.abs(ideal[0].data).max()


def test_a_jump_is_a_factor_and_a_delay_from_its_moment_on(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    name = _names(ideal[0])[3]
    jump = Jump(name, TILE_S - 1, gain=1.5, delay_ns=8.0)
    before = _seen(tmp_path / "0", sky, 0, jumps=(jump,))
    after = _seen(tmp_path / "1", sky, 1, jumps=(jump,))
    assert before.data == pytest.approx(ideal[0].data, rel=1e-3, abs=1e-6)
    rows = _rows(after, name)
    ratio = after.data[rows] / ideal[1].data[rows]
    assert np.abs(ratio) == pytest.approx(1.5, rel=1e-3)
    slope = np.angle(ratio[:, -1] / ratio[:, 0]) / (2 * np.pi)
    turns = 8e-9 * (after.frequencies_hz[-1] - after.frequencies_hz[0])
    assert np.abs(np.abs(slope) - np.abs(turns - round(turns))).max() < 1e-3
    assert after.data[~rows] == pytest.approx(ideal[1].data[~rows], rel=1e-3, abs=1e-6)


def test_hands_die_and_are_swapped(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    dead, one, two = _names(ideal[0])[2:5]
    vis = _seen(tmp_path, sky, dead_hands=(DeadHand(dead, 1),), swapped=(one, two))
    scale = np.abs(ideal[0].data).max()
    assert np.abs(vis.data[_rows(vis, dead)][:, :, 1]).max() < 1e-6 * scale
    pair = _rows(vis, one) & _rows(vis, two)
    alone = _rows(vis, one) & ~pair
    assert np.abs(vis.data[alone]).max() < 1e-6 * scale
    assert np.abs(vis.data[pair]) == pytest.approx(np.abs(ideal[0].data[pair]), rel=1e-3)


def test_all_receivers_drift_together(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    vis = _seen(tmp_path, sky, 1, common_drift_per_h=0.5)
    middle_h = TILE_S * 1.5 / 3600
    ratio = np.abs(vis.data / ideal[1].data)
    assert np.median(ratio) == pytest.approx((1 + 0.5 * middle_h) ** 2, rel=3e-3)


def test_a_noisy_antenna_has_three_times_the_noise(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    name = _names(ideal[0])[5]
    vis = _seen(tmp_path, sky, noise=True, noisy=(name,), delays_ns={name: 0.0})
    # Amplitudes of receivers differ: each baseline is compared with itself.
    usual = _seen(tmp_path, sky, noise=True, antenna_drift_per_h=1e-9)
    rows = _rows(vis, name)
    noise = [(x.data - ideal[0].data)[rows].std() for x in (vis, usual)]
    assert noise[0] / noise[1] == pytest.approx(3.0, rel=0.05)


def test_a_beam_that_points_elsewhere_or_is_wider_changes_what_is_seen(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    frequencies = ideal[0].frequencies_hz

    def response(offset_deg: float, width: float) -> np.ndarray:
        sin = np.sin(np.deg2rad(offset_deg))
        return power_response(sin, frequencies, DSA110.dish_diameter_m / width)

    usual = response(OFF_AXIS_DEG, 1.0)
    for wrong, expected in (
        ({"beam_north_arcmin": 12.0}, response(OFF_AXIS_DEG - 0.2, 1.0)),
        ({"beam_width": 1.1}, response(OFF_AXIS_DEG, 1.1)),
    ):
        vis = _seen(tmp_path / next(iter(wrong)), sky, **wrong)
        ratio = np.median(np.abs(vis.data / ideal[0].data)[:, :, 0], axis=0)
        assert ratio == pytest.approx(expected / usual, rel=5e-3)


def test_antennas_point_elsewhere_each_by_itself(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    vis = _seen(tmp_path, sky, pointing_scatter_arcmin=6.0)
    ratio = np.median(np.abs(vis.data / ideal[0].data), axis=(1, 2))
    assert np.std(ratio) > 0.02
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)


def test_refraction_moves_the_sky_and_wrong_places_turn_phases(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    for wrong in ({"refraction_arcsec": 20.0}, {"position_error_m": 0.02}):
        vis = _seen(tmp_path / next(iter(wrong)), sky, **wrong)
        turned = np.angle(vis.data / ideal[0].data)[:, :, 0]
        lengths_m = np.linalg.norm(vis.uvw_m, axis=1)
        per_turn = SPEED_OF_LIGHT_M_S / vis.frequencies_hz.mean() / (2 * np.pi)
        path_m = np.abs(turned.mean(axis=1)) * per_turn
        if "refraction_arcsec" in wrong:
            angle_rad = np.sqrt(np.mean(path_m**2) / np.mean(lengths_m**2))
            assert 3.0 < np.rad2deg(angle_rad) * 3600 < 40.0
            assert path_m[lengths_m < 100].max() < 0.02
        else:
            # The drift is tracked: what is left is the error times the source's offset.
            assert path_m.max() < 0.02 * np.sqrt(6) * 4 * np.deg2rad(OFF_AXIS_DEG) + 1e-5
            assert path_m.max() > 1e-5


def test_neighbours_talk_and_others_do_not(
    tmp_path: Path, sky: KnownSky, ideal: list[Visibilities]
) -> None:
    array = TroubledArray(
        Troubles(crosstalk_jy=30.0),
        ("1", "2", "3"),
        np.array([[0.0, 0, 0], [6.0, 0, 0], [90.0, 0, 0]]),
        SITE,
        0.0,
        1,
    )
    heard = array.crosstalk(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), np.array([1.3e9]))
    assert np.abs(heard[:, 0, 0]) == pytest.approx([0, 30, 0, 0])


def test_what_is_random_about_one_trouble_does_not_depend_on_the_others() -> None:
    names, positions = ("1", "2", "3"), np.zeros((3, 3))
    one = Troubles(antenna_drift_per_h=0.1)
    both = Troubles(antenna_drift_per_h=0.1, position_error_m=0.1)
    gains = [
        TroubledArray(wrong, names, positions, SITE, 0.0, 1).gains(3600.0, np.array([1.3e9, 1.4e9]))
        for wrong in (one, both)
    ]
    assert np.array_equal(*gains)
    assert np.std(np.abs(gains[0])) > 0.01


def test_troubles_are_read_from_a_file_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "troubles.toml"
    path.write_text(
        'common_drift_per_h = 0.1\nswapped = ["99"]\n'
        '[[jumps]]\nantenna = "24"\nafter_s = 1236.0\ngain = 1.5\n'
        '[[dead_hands]]\nantenna = "46"\nhand = 0\n[delays_ns]\n41 = 434.0\n'
    )
    assert read_troubles(path) == Troubles(
        common_drift_per_h=0.1,
        swapped=("99",),
        jumps=(Jump("24", 1236.0, gain=1.5),),
        dead_hands=(DeadHand("46", 0),),
        delays_ns={"41": 434.0},
    )
    path.write_text("")
    assert read_troubles(path) == NO_TROUBLES
    for text in (
        "common_drift = 0.1",
        "common_drift_per_h = 'much'",
        "[[",
        "far_jy = {Mars = 1.0}",
        "[[dead_hands]]\nantenna = '1'\nhand = 2",
    ):
        path.write_text(text)
        with pytest.raises(BadInputError, match=r"troubles\.toml"):
            read_troubles(path)


def test_an_antenna_that_is_not_in_the_run_is_named() -> None:
    with pytest.raises(UsageError, match="antennas 999, which have no data"):
        hour.prepare(replace(OPTIONS, troubles=Troubles(swapped=("999",))))


def test_the_pipeline_names_what_is_wrong_and_goes_on(tmp_path: Path, small_run: SmallRun) -> None:
    options = small_run.run.options
    usual = hour.prepare(options)
    names = usual.observatory.antennas
    jumping, dead, swapped, noisy = (str(names[i] + 1) for i in (2, 5, 8, 11))
    tile_s = options.integrations * DSA110.integration_s if options.integrations else 0.0
    wrong = Troubles(
        jumps=(Jump(jumping, 2 * tile_s - 1, gain=1.6),),
        dead_hands=(DeadHand(dead, 1),),
        swapped=(swapped,),
        noisy=(noisy,),
        refraction_arcsec=2.0,
        common_drift_per_h=0.05,
    )
    run = hour.prepare(replace(options, troubles=wrong), sky=small_run.run.sky)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    files = [path for group in range(3) for path in run.write(incoming, group)]
    root = make_root(tmp_path / "root", small_run)
    context = PipelineContext(root, [SubbandFiles(files)])
    result = PipelineOrchestrator(graphs.from_subbands(small_options(root))).run(context)
    assert result.raise_on_failure()[PublishedMosaic].published
    tiles = recorded_antennas(Registry.of(settings_module.load(root=root)))
    named = {(e.antenna, e.polarizations, e.state): e for e in find_events(tiles)}
    assert set(named) == {
        (jumping, "XY", "changed"),
        (dead, "Y", "unsolved"),
        (swapped, "XY", "unsolved"),
        (noisy, "XY", "noisy"),
    }
    jump = named[jumping, "XY", "changed"]
    assert jump.jumped_at == pytest.approx(tiles[2].start, abs=1)
    assert jump.n_tiles == 1
