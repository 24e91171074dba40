"""What those who look after the calibration do at the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import Processed
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry import manual_flags
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import load
from dsa110_contimg.sky import astrometry
from dsa110_contimg.stage_options import CalibrationApplyOptions
from dsa110_contimg.tasks import calibration_apply
from dsa110_contimg.visibilities import measurement_set
from dsa110_contimg.visibilities.manual_flags import ManualFlag, apply_manual, parse_channels


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sets_are_listed_shown_drawn_rejected_and_accepted(
    processed: Processed, tmp_path: Path
) -> None:
    root = ("--root", processed.root)
    (listed,) = json.loads(_run("caltables", "list", "--json", *root))
    solved = processed.result[SolvedSet]
    assert listed["id"] == solved.id
    assert listed["standing"] == "normal"
    shown = _run("caltables", "show", solved.id, *root)
    dead = processed.result[ConvertedTiles].tiles[0].dead_antennas
    vis = measurement_set.read(processed.result[ConvertedTiles].tiles[0].ms_path)
    for name in np.array(vis.array.names)[vis.antennas_present()]:
        assert (f"\n{name} " in shown) == (name not in dead)
    assert "B Jones" in shown
    assert "G Jones" in shown
    _run("caltables", "plot", solved.id, "--output", tmp_path / "gains.png", *root)
    for name in ("gains_bandpass.png", "gains_gains.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    _run("caltables", "reject", solved.id, "--reason", "dew", *root)
    assert _run("caltables", "list", *root).split()[-2:] == ["rejected", "dew"]
    _run("caltables", "accept", solved.id, *root)
    assert "rejected" not in _run("caltables", "list", *root)


def test_an_unknown_set_is_named(processed: Processed) -> None:
    with pytest.raises(UsageError, match="no calibration set 'none'"):
        _run("caltables", "show", "none", "--root", processed.root)


def test_transits_are_when_the_source_is_on_the_meridian(processed: Processed) -> None:
    start = processed.run.options.start.timestamp()
    found = json.loads(
        _run(
            "transits",
            "--dec",
            16.2,
            "--since",
            start - 3600,
            "--hours",
            49,
            "--min-jy",
            2.0,
            "--json",
            "--root",
            processed.root,
        )
    )
    assert found == sorted(found, key=lambda one: one["time_s"])
    names = [one["name"] for one in found]
    twice = found[0]
    again = [one for one in found if one["name"] == twice["name"]]
    assert len(again) >= 2
    assert again[1]["time_s"] - again[0]["time_s"] == pytest.approx(86164.1, abs=1.0)
    telescope = processed.run.observatory.telescope
    site = astrometry.Site(
        np.deg2rad(telescope.latitude_deg),
        np.deg2rad(telescope.longitude_deg),
        telescope.altitude_m,
    )
    for one in found:
        frame = astrometry.EarthFrame(np.array([2440587.5 + one["time_s"] / 86400]), site)
        source = astrometry.radec_to_vector(np.deg2rad(one["ra_deg"]), np.deg2rad(one["dec_deg"]))
        x, y, _ = frame.itrf_directions(source[None])[0, 0]
        # Local hour angle is zero within what precession turns the frames by.
        hour_angle = site.longitude_rad - np.arctan2(y, x)
        assert abs(np.rad2deg(np.angle(np.exp(1j * hour_angle)))) < 0.02
    assert names


def test_flags_by_hand_are_kept_applied_and_told(processed: Processed, tmp_path: Path) -> None:
    tile = processed.result[ConvertedTiles].tiles[1]
    vis = measurement_set.read(tile.ms_path)
    name = vis.array.names[vis.antenna1[-1]]
    middle = tile.start + tile.duration_s / 2
    root = ("--root", processed.root)
    _run(
        "flags",
        "add",
        "--antenna",
        name,
        "--to",
        middle,
        "--channels",
        "3-5,9",
        "--reason",
        "wind",
        *root,
    )
    registry = Registry.of(load(root=processed.root))
    (kept,) = manual_flags.known(registry)
    flag = kept.flag
    _, row = _run("flags", "list", *root).splitlines()
    assert row.split()[:2] == [str(kept.number), name]
    assert row.split()[-2:] == ["3-5,9-9", "wind"]
    (listed,) = json.loads(_run("flags", "list", "--json", *root))
    assert listed["flag"]["antennas"] == [name]
    done = calibration_apply.apply(
        tile,
        processed.result[SolvedSet],
        tmp_path / "flagged.ms",
        processed.root,
        CalibrationApplyOptions(sky_catalog="known"),
        (flag,),
    )
    flagged = measurement_set.read(done.ms_path)
    number_of = vis.array.names.index(name)
    rows = (vis.antenna1 == number_of) | (vis.antenna2 == number_of)
    early = vis.times_s[vis.time_index] <= vis.times_s[0] + middle - tile.start
    rank = np.argsort(np.argsort(vis.frequencies_hz))
    assert flagged.flags[rows & early][:, np.isin(rank, [3, 4, 5, 9])].all()
    assert not flagged.flags[rows & ~early][:, np.isin(rank, [3, 4, 5, 9])].all()
    assert not flagged.flags[rows & early][:, rank == 7].all()
    assert any("wind" in note for note in flagged.notes)
    _run("flags", "remove", kept.number, *root)
    assert not manual_flags.known(registry)


def test_a_flag_of_everything_or_of_nonsense_is_refused(processed: Processed) -> None:
    with pytest.raises(UsageError, match="would flag everything"):
        _run("flags", "add", "--reason", "oops", "--root", processed.root)
    for text in ("a-b", "5-3", "1-2-x"):
        with pytest.raises(UsageError, match="channels"):
            parse_channels(text)


def test_flags_of_other_times_leave_the_data_alone(processed: Processed) -> None:
    vis = measurement_set.read(processed.result[ConvertedTiles].tiles[0].ms_path)
    before = vis.flags.copy()
    assert apply_manual(vis, [ManualFlag(start=0.0, end=1.0)]) == []
    np.testing.assert_array_equal(vis.flags, before)


def test_sun_and_moon_are_where_astropy_has_them(processed: Processed) -> None:
    from astropy.coordinates import SkyCoord, get_body
    from astropy.time import Time

    tile = processed.result[ConvertedTiles].tiles[0]
    when = Time(tile.start + tile.duration_s / 2, format="unix")
    centre = SkyCoord(tile.ra_deg, tile.dec_deg, unit="deg")
    for body, found in (("sun", tile.sun_deg), ("moon", tile.moon_deg)):
        there = get_body(body, when)
        expected = SkyCoord(there.ra, there.dec).separation(centre).deg
        assert found == pytest.approx(expected, abs=0.05)
