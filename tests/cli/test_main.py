"""The first page of the command line."""

import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from dsa110_contimg import __version__
from dsa110_contimg.cli.main import BATCH, KEEP, LOOK, START, app, main
from dsa110_contimg.cli.mosaic import mosaic_main
from dsa110_contimg.cli.streaming import convert_stream_main, streaming_mosaic_main


@pytest.mark.parametrize("main", [main, convert_stream_main, streaming_mosaic_main, mosaic_main])
def test_every_program_prints_the_version(
    main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dsa110-contimg {__version__}\n"


def test_every_command_is_in_one_section_of_the_help() -> None:
    done = CliRunner().invoke(app, ["--help"], terminal_width=100)
    assert done.exit_code == 0
    sections = re.split(rf"^({START}|{BATCH}|{LOOK}|{KEEP}):$", done.output, flags=re.MULTILINE)
    assert sections[1::2] == [START, BATCH, LOOK, KEEP]
    listed = [name for part in sections[2::2] for name in re.findall(r"^  ([a-z-]+)  ", part, re.M)]
    assert len(set(listed)) == len(listed)
    names = {command.name for command in app.registered_commands}
    assert set(listed) == names | {group.name for group in app.registered_groups}
    assert "--install-completion" in done.output


def test_an_error_of_the_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dsa110-contimg", "simulate", "/proc/nowhere"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: /proc/nowhere: No such file or directory"
    ]


def test_a_file_system_that_takes_no_colons_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "Unable to create file")

    monkeypatch.setattr(sys, "argv", ["dsa110-contimg", "simulate", str(tmp_path)])
    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/2026-")
    assert "names with colons" in error
    assert len(error.splitlines()) == 1
