"""A root is set up, examined, and its daemons tell systemd that they live."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import SmallRun, make_root
from dsa110_contimg import client
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.cli import setup
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.settings import ExecutorSettings
from dsa110_contimg.options import parse_options
from dsa110_contimg.stage_options import CalibrationSolveOptions, PipelineOptions
from dsa110_contimg.streaming.notify import notify


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.stdout


def test_init_makes_a_root_and_overwrites_nothing(tmp_path: Path) -> None:
    root = tmp_path / "new"
    code, told = _run("init", "--root", root, "--input-dir", "/data/in", "--user", "obs")
    assert code == 0
    assert (root / "contimg.toml").exists()
    unit = (root / "systemd" / "dsa110-contimg-convert.service").read_text()
    for line in (
        "User=obs",
        "KillMode=control-group",
        "OOMPolicy=continue",
        "Type=notify",
        "WatchdogSec=",
        "--input-dir /data/in",
    ):
        assert line in unit
    (root / "contimg.toml").write_text("workers = 3\n")
    code, told = _run("init", "--root", root)
    assert code == 0
    assert "left as it is" in told
    assert settings_module.load(root=root).workers == 3


def _given(text: str) -> dict[str, object]:
    """Settings that a commented text would give."""
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return tomllib.loads(
        "\n".join(line for line in lines if " = " in line and not line.endswith(" = "))
    )


def test_the_commented_settings_are_the_defaults(tmp_path: Path) -> None:
    text = setup.commented_settings()
    assert tomllib.loads(text) == {}
    tables = text.split("# [[alerts]]")[0].split("\n# [executor.slurm]")[0].split("\n# [")
    values = _given(tables[0])
    sections = {table.partition("]")[0]: _given(table.partition("]")[2]) for table in tables[1:]}
    known = {"executor": ExecutorSettings().model_dump(mode="json"), **PipelineOptions().dump()}
    assert set(sections) == set(known)
    for section, given in sections.items():
        without = {name for name, value in known[section].items() if value is None}
        assert given == {k: v for k, v in known[section].items() if k not in without}
    values.pop("workers")
    (tmp_path / "contimg.toml").write_text(
        "\n".join(f"{key} = {value!r}".replace("True", "true") for key, value in values.items())
    )
    assert settings_module.load(root=tmp_path).model_dump(exclude={"root"}) == (
        settings_module.load(root=tmp_path / "none").model_dump(exclude={"root"})
    )
    assert {"lease_s", "group_size", "disk_stop_gb"} <= set(values)


def test_the_alerts_of_the_commented_settings_hold_as_they_are(tmp_path: Path) -> None:
    rules = "[[alerts]]" + setup.commented_settings().split("# [[alerts]]", 1)[1]
    (tmp_path / "contimg.toml").write_text(rules.replace("# ", ""))
    names = [rule.name for rule in settings_module.load(root=tmp_path).alerts]
    assert names == ["no data", "behind the sky", "failures", "disk", "last night"]


def test_what_holds_is_told_with_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contimg.toml").write_text(
        'sky_catalog = "mine"\n[calibrate]\nmin_snr = 4.0\n[image]\nrobust = 0.3\nsize = 256\n'
    )
    monkeypatch.setenv("CONTIMG_IMAGE__SIZE", "512")
    settings = settings_module.load(root=tmp_path, workers=7)
    told = {
        name: (value, settings_module.origins(settings)[name])
        for name, value in settings_module.values(settings).items()
    }
    assert told["workers"] == (7, "command line")
    assert told["image.size"] == (512, "environment")
    assert told["image.robust"] == (0.3, "contimg.toml")
    assert told["image.niter"] == (20000, "default")
    assert told["image.sky_catalog"] == ("mine", "contimg.toml")
    assert told["calibrate.min_snr"] == told["apply.min_snr"] == (4.0, "contimg.toml")
    given = {"apply": {"min_snr": 5.0}, "image": {"robust": -1.0}}
    options = settings_module.pipeline_options(settings, given)
    assert (options.calibrate.min_snr, options.apply.min_snr) == (4.0, 5.0)
    assert (options.image.robust, options.image.size) == (-1.0, 512)
    assert options.validate.sky_catalog == options.crossmatch.sky_catalog == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[image]\nuvmin = 3", "setting image: uvmin is called uv_min_lambda now"),
        ("[apply]\nrefant = '1'", "setting apply: refant is called reference_antennas now"),
        ("[image]\nnope = 3", r"setting image.nope: is unknown; there are .*robust.*"),
        ("min_subbands = 9", "setting min_subbands is called convert.min_subbands now"),
    ],
)
def test_a_former_name_is_refused_with_the_one_of_today(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "contimg.toml").write_text(text)
    with pytest.raises(UsageError, match=f"^{message}$"):
        settings_module.load(root=tmp_path)


def test_a_former_variable_is_refused_and_former_provenance_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = {
        "calibrate": {"uvmin": 50.0, "refant": "103,24"},
        "image": {"cell": 6.0, "auto_mask": 4.0, "uvmax": None, "size": 2400},
        "validate": {"coverage": 0.9},
    }
    options = PipelineOptions.from_dump(former)
    assert options.calibrate.reference_antennas == ("103", "24")
    assert options.calibrate.uv_min_lambda == 50.0
    assert (options.image.cell_arcsec, options.image.auto_mask_sigma) == (6.0, 4.0)
    assert options.validate.min_coverage == 0.9
    monkeypatch.setenv("CONTIMG_MIN_SUBBANDS", "9")
    with pytest.raises(UsageError, match="is called CONTIMG_CONVERT__MIN_SUBBANDS now"):
        settings_module.load(root=tmp_path)


def test_names_may_be_empty_but_ranges_may_not() -> None:
    given = {"reference_antennas": " 103, 24,"}
    options = parse_options(CalibrationSolveOptions, given, "calibrate")
    assert options.reference_antennas == ("103", "24")
    assert (
        parse_options(FieldSolveOptions, {"reference_antennas": ""}, "x").reference_antennas == ()
    )
    assert parse_options(Selection, {"declination": "10, 20"}, "s").declination == (10.0, 20.0)
    with pytest.raises(UsageError, match="option selection"):
        parse_options(Selection, {"declination": "10,,20"}, "selection")


def test_the_client_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    shutil.copy(client.__file__, tmp_path / "copied.py")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import copied"
    # -S leaves out everything that is installed.
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("module", ["api.app", "cli.main", "streaming.headers", "streaming.health"])
def test_what_must_start_fast_imports_no_heavy_library(module: str) -> None:
    program = (
        f"import sys, dsa110_contimg.{module}\n"
        "heavy = {'numba', 'radler', 'casacore', 'aoflagger', 'astropy.io', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    _run("init", "--root", tmp_path / "root", "--user", "root")
    for unit in (tmp_path / "root" / "systemd").iterdir():
        done = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_doctor_finds_what_is_wrong(tmp_path: Path, small_run: SmallRun) -> None:
    code, told = _run("doctor", "--root", tmp_path / "nowhere")
    assert code == 1
    assert "does not exist" in told
    root = make_root(tmp_path / "root", small_run)
    code, told = _run("doctor", "--root", root)
    assert code == 0, told
    assert "catalogue: known" in told
    shutil.rmtree(root / "catalogues")
    code, told = _run("doctor", "--root", root)
    assert code == 1
    assert "failed  catalogue" in told


def test_notify_reaches_both_kinds_of_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    for name in (str(tmp_path / "socket"), f"@contimg-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind("\0" + name[1:] if name.startswith("@") else name)
            channel.settimeout(5)
            monkeypatch.setenv("NOTIFY_SOCKET", name)
            assert notify("WATCHDOG=1")
            assert channel.recv(100) == b"WATCHDOG=1"


def test_a_daemon_tells_systemd_that_its_loop_lives(tmp_path: Path, small_run: SmallRun) -> None:
    root = make_root(tmp_path / "root", small_run)
    (tmp_path / "in").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "socket"))
        channel.settimeout(60)
        program = Path(sys.executable).parent / "dsa110-contimg-convert-stream"
        daemon = subprocess.Popen(
            [
                str(program),
                "--input-dir",
                str(tmp_path / "in"),
                "--root",
                str(root),
                "--poll-interval",
                "0.2",
                "--workers",
                "1",
            ],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "socket")},
            stderr=subprocess.DEVNULL,
        )
        try:
            told = [channel.recv(100) for _ in range(4)]
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait()
        assert told == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        rest = []
        channel.setblocking(False)
        while not rest or rest[-1] != b"STOPPING=1":
            rest.append(channel.recv(100))


def test_a_settings_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "contimg.toml").write_text("workers = 2\ngroup_size = null\n")
    with pytest.raises(UsageError, match=r"contimg\.toml: is not valid TOML .*line 2"):
        settings_module.load(root=tmp_path)
