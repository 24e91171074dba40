"""Reference catalogues: fetched, imported with their traps, searched."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import RetryableError, UsageError
from dsa110_contimg.sky import catalogues, vizier

_MOST, _RESOLVED_MJY = 40, 120.0
"""Rows that the service of the tests gives at once; fainter sources have upper limits of sizes."""


_VLASS_COLUMNS = (
    '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
    '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/><TABLE>'
    + "".join(
        f'<FIELD name="{name}" datatype="double"/>'
        for name in ("RAJ2000", "DEJ2000", "Ftot", "DCMaj", "DCMin", "DCPA")
    )
    + "{flags}<DATA><TABLEDATA></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
)
_FLAGS = "".join(f'<FIELD name="{name}" datatype="int"/>' for name in ("DupFlag", "QualFlag"))
_TWICE = "".join(
    f"<TR><TD>{ra}</TD><TD>{dec}</TD><TD>{flux}</TD><TD>0</TD><TD>0</TD><TD>0</TD></TR>"
    for ra, dec, flux in ((10, 20, 50), (10.0001, 20.0001, 51), (11, 21, 60))
)


class _Vizier(BaseHTTPRequestHandler):
    """A TAP service with one table, that holds back rows as the real one does."""

    sky = np.random.default_rng(8).uniform([0, -40, 1], [360, 90, 500], (300, 3))
    queries: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self.answer(parse_qs(urlparse(self.path).query))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.answer(parse_qs(self.rfile.read(length).decode()))

    def answer(self, given: dict[str, list[str]]) -> None:
        query = given["QUERY"][0]
        self.queries.append(query)
        if query.startswith("SELECT TOP 1 *"):
            self.send(_VLASS_COLUMNS.format(flags=_FLAGS))
            return
        if "J/ApJS/255/30/comp" in query:
            rows = _VLASS_COLUMNS.format(flags="").replace("<TABLEDATA>", f"<TABLEDATA>{_TWICE}")
            self.send(rows)
            return
        found = re.search(r'>= (\S+) AND "DEJ2000" BETWEEN (\S+) AND (\S+)', query)
        assert found is not None
        least, low, high = (float(value) for value in found.groups())
        rows = self.sky[
            (self.sky[:, 2] >= least) & (self.sky[:, 1] >= low) & (self.sky[:, 1] <= high)
        ]
        status = "OVERFLOW" if len(rows) > _MOST else "OK"
        cells = "".join(
            f"<TR><TD>{ra:.6f}</TD><TD>{dec:.6f}</TD><TD>{flux:.3f}</TD><TD>50</TD><TD>20</TD>"
            f"<TD>{'' if flux < _RESOLVED_MJY else '-40'}</TD>"
            f"<TD>{'&lt;' if flux < _RESOLVED_MJY else ' '}</TD>"
            f"<TD>{'&lt;' if flux < 2 * _RESOLVED_MJY else ''}</TD></TR>"
            for ra, dec, flux in rows[:_MOST]
        )
        self.send(
            '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
            f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}"/><TABLE>'
            '<FIELD name="RAJ2000" datatype="double" unit="deg"/>'
            '<FIELD name="DEJ2000" datatype="double" unit="deg"/>'
            '<FIELD name="S1.4" datatype="double" unit="mJy"/>'
            '<FIELD name="MajAxis" datatype="float" unit="arcsec"/>'
            '<FIELD name="MinAxis" datatype="float" unit="arcsec"/>'
            '<FIELD name="PA" datatype="float" unit="deg"/>'
            '<FIELD name="l_MajAxis" datatype="char" arraysize="1"/>'
            '<FIELD name="l_MinAxis" datatype="char" arraysize="1"/>'
            f"<DATA><TABLEDATA>{cells}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
        )

    def send(self, text: str) -> None:
        page = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-votable+xml")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Vizier)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/tap"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_survey_comes_whole_though_the_service_holds_rows_back(
    service: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app,
        [
            "catalog",
            "fetch",
            "nvss",
            "--service",
            service,
            "--min-flux",
            "20",
            "--root",
            str(tmp_path),
        ],
    )
    assert done.exit_code == 0, done.output
    found = catalogues.load(tmp_path, "nvss")
    expected = _Vizier.sky[_Vizier.sky[:, 2] >= 20]
    expected = expected[np.argsort(expected[:, 1])]
    assert len(found) == len(expected)
    assert np.allclose(found.dec_deg, expected[:, 1], atol=1e-6)
    assert np.allclose(found.flux_jy, expected[:, 2] / 1e3, atol=1e-6)
    assert found.frequency_hz == 1.4e9
    assert 'FROM "VIII/65/nvss"' in _Vizier.queries[-1]
    # Axes with a limit flag are upper limits.
    resolved = expected[:, 2] >= _RESOLVED_MJY
    line = expected[:, 2] < 2 * _RESOLVED_MJY
    assert 0 < np.count_nonzero(resolved & line) < np.count_nonzero(resolved) < len(found)
    major_arcsec = found.shapes.major_rad / ARCSEC_RAD
    minor_arcsec = found.shapes.minor_rad / ARCSEC_RAD
    assert np.allclose(major_arcsec, np.where(resolved, 50, 0))
    assert np.allclose(minor_arcsec, np.where(line, 0, 20))
    assert np.allclose(np.rad2deg(found.shapes.angle_rad)[resolved], 140)


def test_flags_of_vlass_are_asked_for_and_what_comes_twice_counts_once(service: str) -> None:
    found = vizier.fetch("vlass", 0.02, 10.0, 24.0, service)
    assert ' AND "DupFlag" <= 1 AND "QualFlag" <= 0' in _Vizier.queries[-1]
    assert found.dec_deg.tolist() == [20, 21]
    assert found.flux_jy.tolist() == [0.05, 0.06]


def test_without_network_the_message_says_what_else_to_do() -> None:
    with pytest.raises(RetryableError, match="catalog import FILE"):
        vizier.fetch("nvss", 0.05, 10.0, 20.0, "http://127.0.0.1:9/tap")
    with pytest.raises(UsageError, match="choose one of nvss, first"):
        vizier.fetch("3c", 0.05)
    with pytest.raises(UsageError, match="no source of"):
        vizier.fetch("first", 0.05, 80.0, 90.0)
