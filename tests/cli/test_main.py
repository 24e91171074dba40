"""The first page of the command line."""

import re
import sys
from collections.abc import Callable

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
