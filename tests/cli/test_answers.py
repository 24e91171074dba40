"""Commands answer usefully: to wrong roots, places and names, and where there is nothing."""

import json
import socket
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dsa110_contimg.cli.main import app
from dsa110_contimg.cli.mosaic import mosaic
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import load
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.catalogues import Catalogue

LOOKING = (
    ("status",),
    ("night",),
    ("sources",),
    ("lightcurve", "1"),
    ("antennas",),
    ("transits",),
    ("report", "x"),
    ("retry", "x"),
    ("publish", "x", "--reason", "y"),
    ("hold", "x", "--reason", "y"),
    ("housekeeping", "--dry-run"),
    ("quarantine", "list"),
    ("caltables", "list"),
    ("caltables", "show", "x"),
    ("beam", "list"),
    ("flags", "list"),
    ("token", "list"),
    ("db", "check"),
)
LISTS = {
    ("sources",): "no sources",
    ("quarantine", "list"): "nothing is quarantined or held",
    ("housekeeping", "--dry-run"): "no items",
    ("caltables", "list"): "no calibration sets",
    ("flags", "list"): "no flags",
    ("token", "list"): "no tokens",
    ("catalog", "list"): "no catalogues",
}


def _run(*arguments: object, program: object = app) -> Result:
    return CliRunner().invoke(program, [*map(str, arguments)])  # type: ignore[arg-type]


def _refused(*arguments: object) -> str:
    """What is said of wrong arguments."""
    done = _run(*arguments)
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    if done.exit_code == 1:
        assert isinstance(done.exception, UsageError)
    return done.stderr if done.exit_code == 2 else str(done.exception)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with an empty database and a catalogue of two sources."""
    place = tmp_path / "root"
    Registry.of(load(root=place))
    two = Catalogue(
        "two", 1.4e9, np.array([202.5, 202.6]), np.array([30.5, 30.6]), np.array([0.1, 15.0])
    )
    catalogues.save(place, two)
    return place


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_what_only_looks_makes_no_root(command: tuple[str, ...], tmp_path: Path) -> None:
    said = _refused(*command, "--root", tmp_path / "typo")
    assert "there is no database" in said
    assert "--root" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_an_empty_list_says_so(command: tuple[str, ...], tmp_path: Path) -> None:
    Registry.of(load(root=tmp_path))
    done = _run(*command, "--root", tmp_path)
    assert done.exit_code == 0, done.exception
    assert done.stdout == ""
    assert LISTS[command] in done.stderr.splitlines()
    assert json.loads(_run(*command, "--json", "--root", tmp_path).stdout) == []


def test_mosaics_and_plans_that_are_not_there_are_said_not_to_be(root: Path) -> None:
    for what in ("list", "plans"):
        done = _run(what, "--root", root, program=mosaic)
        assert done.stderr.splitlines()[-1] == f"no {'mosaic' if what == 'list' else 'plan'}s"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("sources", "--behaviour", "nonsense"), "'constant', 'variable'"),
        (("sources", "--cone", "999", "0", "1"), "right ascension 999: give 0 to 360"),
        (("sources", "--cone", "10", "99", "1"), "declination 99: give -90 to 90"),
        (("sources", "--cone", "10", "9", "-1"), "radius -1: give an angle above 0"),
        (("sources", "--cone", "10", "9", "x"), "radius 'x': give degrees"),
        (("sources", "--cone", "13:31:08", "nan", "1"), "declination nan"),
        (("sources", "--cone", "13:99:08", "3", "1"), "right ascension '13:99:08': give degrees"),
        (("transits", "--dec", "200"), "declination 200"),
        (("catalog", "cone", "two", "999", "-99"), "right ascension 999"),
        (("catalog", "cone", "two", "1", "-99"), "declination -99"),
        (("catalog", "cone", "two", "1", "2", "--radius", "200"), "radius 200"),
    ],
)
def test_a_condition_that_nothing_can_meet_is_refused(
    arguments: tuple[str, ...], why: str, root: Path
) -> None:
    assert why in _refused(*arguments, "--root", root)


def test_a_cone_is_given_in_degrees_or_in_hours(root: Path) -> None:
    degrees, hours = (
        _run("catalog", "cone", "two", *position, "--root", root, "--json")
        for position in (("202.5", "30.5"), ("13:30:00", "+30:30:00"))
    )
    (row,) = json.loads(degrees.stdout)
    assert row["flux_jy"] == 0.1
    assert json.loads(hours.stdout)[0]["distance_arcsec"] == pytest.approx(0, abs=1e-6)
    both = _run("catalog", "cone", "two", "202.61", "30.6", "--radius", "0.3", "--root", root)
    header, nearest, farthest = both.stdout.splitlines()
    assert "distance (arcsec)" in header
    assert nearest.split()[2:] == ["15000.00", "31.0"]
    assert farthest.split()[2] == "100.00"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("lightcurve", "1"), "--plot"),
        (("report", "x"), "--output"),
        (("graph",), "--draw"),
        (("caltables", "plot", "x"), "--output"),
        (("beam", "combine", "x"), "--plot"),
        (("compare", "a", "b"), "--output"),
        (("db", "backup"), ""),
        (("crossmatch", "a"), "--output"),
        (("image", "a"), "--output"),
        (("convert", "a"), "--output"),
        (("apply", "a", "--tables", "b"), "--output"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(
    arguments: tuple[str, ...], option: str, root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "missing" / "x.png"
    place = (option, target) if option else (target,)
    said = _refused(*arguments, *place, "--root", root)
    assert said == (
        f"{target}: there is no directory {target.parent}; make it, or choose another name"
    )
    assert not target.parent.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = _refused("convert", tmp_path / "no.hdf5", "--output", tmp_path / "x.ms")
    assert said == f"{tmp_path}/no.hdf5: is not there; give files that are"


@pytest.mark.parametrize(
    "arguments",
    [("lightcurve", "1", "--plot"), ("graph", "--draw"), ("caltables", "plot", "x", "--output")],
)
def test_a_picture_of_an_unknown_form_is_refused_before_the_work(
    arguments: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    said = _refused(*arguments, tmp_path / "x.xyz", "--root", root)
    assert "a picture is .png, .svg, .pdf" in said


def test_an_environment_variable_that_is_no_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTIMG_WORKRS", "3")
    assert _refused("config", "--root", tmp_path) == (
        "environment variable CONTIMG_WORKRS: there is no such setting; did you mean "
        "CONTIMG_WORKERS?"
    )
    monkeypatch.delenv("CONTIMG_WORKRS")
    for other in ("CONTIMG_WORKER_OWN_DISK", "CONTIMG_ALERT_NAME", "CONTIMG_REAL_DATA"):
        monkeypatch.setenv(other, "x")
    assert _run("config", "--root", tmp_path).exit_code == 0
    monkeypatch.setenv("CONTIMG_IMAGE__ROBUST", "x")
    assert _refused("config", "--root", tmp_path).startswith("setting image.robust: ")


def test_the_settings_that_are_printed_are_toml(tmp_path: Path) -> None:
    alert = '[[alerts]]\nname = "disk"\nwhen = "disk_free_gb"\nlimit = 9\n'
    (tmp_path / "contimg.toml").write_text(alert)
    done = _run("config", "--root", tmp_path)
    holds = tomllib.loads(done.stdout)
    assert holds["image"]["size"] == 1024
    assert holds["alerts"][0]["limit"] == 9
    assert "# keep_ms_h: nothing  # default" in done.stdout


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refused("serve", "--port", port, "--root", ".")
    assert said == f"cannot listen on 127.0.0.1, port {port}: address already in use; give another"


def test_nights_show_the_same_sky_a_sidereal_day_apart(tmp_path: Path) -> None:
    given = "--groups 1 --nights 2 --antennas 4 --channels 1 --start 2026-03-01T04:00:00"
    done = _run("simulate", tmp_path / "in", *given.split())
    assert done.exit_code == 0, done.output
    starts_jd = set()
    for path in (tmp_path / "in").glob("*.hdf5"):
        with h5py.File(path) as file:
            starts_jd.add(float(file["Header/time_array"][0]))
    first, second = sorted(starts_jd)
    assert 86400 * (second - first) == pytest.approx(86164.09, abs=0.02)
    assert first == pytest.approx(2461100.66667, abs=1e-5)
