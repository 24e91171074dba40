"""Tried to get in and found shut: each way once."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from typer.testing import CliRunner

from dsa110_contimg import records
from dsa110_contimg import settings as settings_module
from dsa110_contimg.api.app import create_app
from dsa110_contimg.artifacts.mosaics import MosaicImage, Validation
from dsa110_contimg.batch import jobs
from dsa110_contimg.cli.main import app as cli
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.registry import tokens
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job, Mosaic, Product, Source, Token
from dsa110_contimg.registry.tokens import Scope
from dsa110_contimg.settings import Settings

JOB = {"type": "mosaic", "params": {"name": "mine"}}
HERE = "http://127.0.0.1:8000"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True)
    (root / "products" / "mosaics").mkdir(parents=True)
    return settings_module.load(root=root)


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    registry = Registry.of(settings)
    yield registry
    registry.close()


class Caller:
    """Makes clients that talk to one application from somewhere; no job is ever started."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def __call__(
        self, address: str = "127.0.0.1", url: str = HERE, require_token: bool = False
    ) -> TestClient:
        app = create_app(self.settings, require_token=require_token)
        return TestClient(app, base_url=url, client=(address, 50000), raise_server_exceptions=False)


@pytest.fixture
def call(settings: Settings) -> Caller:
    return Caller(settings)


def _count(registry: Registry) -> int:
    with registry.read() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_whoever_sits_at_the_machine_needs_no_token(call: Caller, registry: Registry) -> None:
    client = call()
    assert client.get("/api/status").status_code == 200
    assert client.post("/api/jobs/", json=JOB).status_code == 201
    assert _count(registry) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "contimg.example.org"},
        {"Host": "127.0.0.1.example.org:8000"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": "http://localhost.example.org"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
)
def test_foreign_hosts_pages_and_proxies_get_nothing_without_a_token(
    headers: dict[str, str], call: Caller, registry: Registry
) -> None:
    client = call()
    assert client.post("/api/jobs/", json=JOB, headers=headers).status_code == 403
    assert client.get("/api/jobs/", headers=headers).status_code == 403
    assert _count(registry) == 0


def test_another_machine_gets_nothing_without_a_token(call: Caller, registry: Registry) -> None:
    client = call("192.0.2.7")
    assert client.get("/api/status").status_code == 403
    assert client.post("/api/jobs/", json=JOB).status_code == 403
    assert _count(registry) == 0


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_allows_what_its_scope_says_from_anywhere(call: Caller, registry: Registry) -> None:
    reader = tokens.create(registry, "reader", Scope.READ)
    writer = tokens.create(registry, "writer", Scope.WRITE)
    client = call("192.0.2.7", "http://contimg.example.org", require_token=True)
    assert client.get("/api/status", headers=_bearer(reader)).status_code == 200
    refused = client.post("/api/jobs/", json=JOB, headers=_bearer(reader))
    assert refused.status_code == 403
    assert "only read" in refused.json()["detail"]
    assert client.post("/api/jobs/", json=JOB, headers=_bearer(writer)).status_code == 201


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token + "A",
        lambda token: token.split("_", 2)[2],
        lambda token: "contimg_999_" + token.split("_", 2)[2],
        lambda token: "contimg_1_",
        lambda token: "contimg_1' OR '1'='1_x",
        lambda token: "contimg_99999999999999999999_x",
        lambda token: "contimg_\u0661_x",
        lambda token: "x" * 5000,
    ],
)
def test_wrong_tokens_are_refused(
    spoil: Callable[[str], str], call: Caller, registry: Registry
) -> None:
    good = tokens.create(registry, "writer", Scope.WRITE)
    for require in (False, True):
        client = call(require_token=require)
        headers = {"Authorization": f"Bearer {spoil(good)}".encode()}
        answer = client.post("/api/jobs/", json=JOB, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        basic = {"Authorization": f"Basic {good}"}
        assert client.post("/api/jobs/", json=JOB, headers=basic).status_code == 401
    assert _count(registry) == 0


def test_no_token_is_no_entry_where_one_is_required(call: Caller, registry: Registry) -> None:
    client = call(require_token=True)
    for path in ("/api/status", "/api/jobs/", "/api/mosaics", "/metrics"):
        assert client.get(path).status_code == 401, path
    assert client.post("/api/jobs/", json=JOB).status_code == 401
    assert _count(registry) == 0


def test_a_revoked_token_is_worth_nothing_at_once(call: Caller, settings: Settings) -> None:
    root = ["--root", str(settings.root)]
    made = CliRunner().invoke(cli, ["token", "create", "robot", "--scope", "write", *root])
    token = made.stdout.strip().splitlines()[-1]
    client = call("192.0.2.7", require_token=True)
    assert client.post("/api/jobs/", json=JOB, headers=_bearer(token)).status_code == 201
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/openapi.json", headers=_bearer(token)).json()["paths"]
    assert "in force" in CliRunner().invoke(cli, ["token", "list", *root]).stdout
    assert CliRunner().invoke(cli, ["token", "revoke", "robot", *root]).exit_code == 0
    assert client.post("/api/jobs/", json=JOB, headers=_bearer(token)).status_code == 401
    again = CliRunner().invoke(cli, ["token", "revoke", "robot", *root])
    assert "no token of this name is in force" in str(again.exception)
    reused = CliRunner().invoke(cli, ["token", "create", "robot", *root])
    assert "choose another name" in str(reused.exception)


def test_the_database_does_not_hold_a_secret(registry: Registry) -> None:
    token = tokens.create(registry, "robot", Scope.READ)
    with registry.read() as session:
        row = session.scalars(select(Token)).one()
    secret = token.split("_", 2)[2]
    kept = json.dumps([getattr(row, column.key) for column in Token.__table__.columns])
    assert secret not in kept
    assert len(secret) >= 40


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../etc/passwd", "products/../../../etc/passwd", "link/passwd", "~/x"],
)
@pytest.mark.parametrize("kind", ["convert", "pipeline", "image", "apply", "validate"])
def test_inputs_outside_the_root_are_refused(
    kind: str, path: str, call: Caller, settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    (settings.root / "link").symlink_to("/etc")
    if path == "~/x":
        path = str(tmp_path / "x")
    params = {
        "convert": {"files": [path]},
        "pipeline": {"files": [path]},
        "image": {"ms": path},
        "apply": {"ms": "ms/a.ms", "tables": path},
        "validate": {"mosaic": path},
    }[kind]
    answer = call().post("/api/jobs/", json={"type": kind, "params": params})
    assert answer.status_code == 422
    assert "lies outside" in answer.json()["detail"]
    assert _count(registry) == 0


@pytest.mark.parametrize(
    "output",
    [
        "/tmp/x.fits",
        "products/../../x.fits",
        "state/x.fits",
        "products/away/x.fits",
        "products/mosaics/x.fits",
        "products/jobs/../mosaics/x.fits",
        "products/hips/x.fits",
        "products/catalogues/x.fits",
    ],
)
@pytest.mark.parametrize("kind", ["mosaic", "image", "crossmatch"])
def test_outputs_elsewhere_or_over_what_is_published_are_refused(
    kind: str, output: str, call: Caller, settings: Settings, registry: Registry
) -> None:
    (settings.root / "products" / "away").symlink_to("/tmp")
    params = {
        "mosaic": {"name": "m"},
        "image": {"ms": "ms/a.ms"},
        "crossmatch": {"mosaic": "ms/a.fits"},
    }[kind]
    body = {"type": kind, "params": {**params, "output": output}}
    answer = call().post("/api/jobs/", json=body)
    assert answer.status_code == 422
    assert _count(registry) == 0


def test_a_link_that_is_laid_after_the_request_is_found_when_the_job_begins(
    call: Caller, settings: Settings, registry: Registry
) -> None:
    body = {"type": "mosaic", "params": {"name": "m", "output": "products/mine/x.fits"}}
    job = call().post("/api/jobs/", json=body).json()["id"]
    (settings.root / "products" / "mine").symlink_to("/tmp")
    with registry.write() as session:
        session.get_one(Job, job).state = "running"
    assert not jobs.run_job(settings, job)
    with registry.read() as session:
        assert "lies outside" in session.get_one(Job, job).error


@pytest.mark.parametrize("length", [None, 2_000_000])
def test_a_body_that_is_too_large_is_not_read(
    length: int | None, call: Caller, registry: Registry
) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"type": "mosaic", "params": {"name": "'
        for _ in range(30):
            yield b"x" * 100_000
        yield b'"}}'

    client = call()
    headers = {"Content-Type": "application/json"}
    content = endless() if length is None else b" " * length
    answer = client.post("/api/jobs/", content=content, headers=headers)
    assert answer.status_code in (400, 413)
    assert _count(registry) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"type": "mosaic"',
        b'{"type": 1, "params": {}}',
        b'{"type": "mosaic", "params": []}',
        b'{"type": "mosaic", "params": {"name": "m"}, "x": 1}',
        b'{"type": "mosaic", "params": {"name": NaN}}',
        b"[" * 5000,
        b'{"type": "shutdown"}',
        b'{"type": "mosaic", "params": {"name": "m", "method": "best"}}',
    ],
)
def test_malformed_bodies_are_refused_in_plain_words(
    body: bytes, call: Caller, registry: Registry
) -> None:
    answer = call().post("/api/jobs/", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text
    assert _count(registry) == 0


SQL = "x'; DROP TABLE jobs; --"


@pytest.mark.parametrize(
    "path",
    [
        f"/api/sources?name={SQL}",
        f"/api/sources?behaviour={SQL[:16]}",
        f"/api/jobs/?type={SQL}",
        f"/api/tiles/{SQL}",
        f"/api/mosaics/{SQL}",
        f"/api/sources/{SQL}",
        f"/api/files/{SQL}",
        f"/api/sources/{SQL}/lightcurve",
        f"/api/tiles?since={SQL}",
        f"/api/mosaics?state={SQL}",
    ],
)
def test_sql_in_a_field_is_a_value_like_another(
    path: str, call: Caller, registry: Registry
) -> None:
    client = call()
    client.post("/api/jobs/", json=JOB)
    assert client.get(path).status_code in (200, 404, 422)
    name = {"type": "mosaic", "params": {"name": SQL.replace("/", "")}}
    assert client.post("/api/jobs/", json=name).status_code == 201
    assert _count(registry) == 2


@pytest.mark.parametrize(
    "name", ["..%2f..%2fstate%2fproducts.sqlite3", "%2e%2e", "..", "products.sqlite3", "link.txt"]
)
def test_a_download_is_a_published_file_or_nothing(
    name: str, call: Caller, settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    link = settings.root / "products" / "mosaics" / "link.txt"
    link.symlink_to(secret)
    with registry.write() as session:
        session.add(
            Product(path=str(link), kind="preview", name="m", sha256="", size=6, published=0.0)
        )
    answer = call().get(f"/api/files/{name}")
    assert answer.status_code in (404, 422)
    assert "secret" not in answer.text


def test_line_breaks_in_names_reach_neither_headers_nor_logs(
    call: Caller, registry: Registry
) -> None:
    evil = "a\r\nSet-Cookie: x=1\r\n\x1b[31m"
    client = call()
    body = {"type": "mosaic", "params": {"name": evil}}
    answer = client.post("/api/jobs/", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    for path in ("/api/tiles/", "/api/files/", "/api/sources/"):
        told = client.get(path + "a%0d%0aSet-Cookie:%20x=1")
        assert told.status_code in (404, 422)
        assert "set-cookie" not in told.headers


def test_too_many_waiting_jobs_and_too_many_requests_are_turned_away(
    settings: Settings, registry: Registry
) -> None:
    narrow = settings.model_copy(update={"api_max_queued_jobs": 3, "api_requests_per_s": 20.0})
    client = Caller(narrow)()
    answers = [client.post("/api/jobs/", json=JOB).status_code for _ in range(5)]
    assert answers == [201, 201, 201, 503, 503]
    assert _count(registry) == 3
    begin = time.monotonic()
    codes = [client.get("/api/jobs/").status_code for _ in range(150)]
    allowed = 40 + 20 * (time.monotonic() - begin) + 1
    assert codes.count(429) >= 150 - allowed
    assert 200 in codes
    refused = client.get("/api/jobs/")
    if refused.status_code == 429:
        assert refused.headers["retry-after"] == "1"


def test_answers_carry_headers_that_browsers_obey(call: Caller) -> None:
    for path in ("/api/status", "/api/jobs/0", "/nowhere"):
        headers = call().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert (
        "access-control-allow-origin" not in call().options("/api/jobs/", headers=preflight).headers
    )


def test_an_error_of_ours_tells_neither_paths_nor_code(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("/root/secret/path")

    monkeypatch.setattr("dsa110_contimg.api.products.health", fail)
    answer = call().get("/api/status")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_lists_are_filtered_and_unknown_things_are_not_there(
    call: Caller, registry: Registry
) -> None:
    with registry.write() as session:
        for n in range(3):
            mosaic = MosaicImage(
                name=f"m{n}",
                path=registry.root / f"m{n}.fits",
                method="mean",
                tile_ids=("a",),
                left_out={},
                start=1.7e9 + 100.0 * n,
                end=1.7e9 + 100.0 * n + 309.0,
                calibration_set_ids=(),
                median_rms_jy=math.nan,
                frequency_hz=1.4e9,
                beam_major_rad=1e-4,
                beam_minor_rad=1e-4,
                beam_angle_rad=0.0,
                observed_deg2=1.0,
            )
            validation = Validation(Verdict.PASSED, (), "nvss", ())
            record = {"mosaic": records.to_json(mosaic), "validation": records.to_json(validation)}
            session.add(
                Mosaic(
                    name=f"m{n}",
                    start=1.7e9 + 100.0 * n,
                    method="mean",
                    verdict="passed",
                    state="published" if n else "held",
                    record=record,
                )
            )
        session.add(
            Source(
                id=1,
                name="DSA J000000.0+160000",
                ra_deg=0.0,
                dec_deg=16.0,
                origin="x",
                behaviour="constant",
                n_epochs=0,
                dip=False,
            )
        )
    client = call()
    names = [row["name"] for row in client.get("/api/mosaics?state=published").json()]
    assert names == ["m2", "m1"]
    assert [r["name"] for r in client.get("/api/mosaics?until=1700000100&limit=1").json()] == ["m1"]
    held = client.get("/api/mosaics/m0").json()
    assert held["state"] == "held"
    assert held["record"]["mosaic"]["median_rms_jy"] is None, "JSON has no number that is none"
    assert [r["id"] for r in client.get("/api/sources?ra=359.99&dec=16&radius=0.1").json()] == [1]
    assert client.get("/api/sources?ra=359.99").status_code == 422
    assert client.get("/api/sources/DSA%20J000000.0+160000").json()["id"] == 1
    assert client.get("/api/sources/1/lightcurve").json()["epochs"] == []
    for path in (
        "tiles/x",
        "mosaics/x",
        "mosaics/x/cutout?ra=1&dec=1",
        "sources/x",
        "files/x",
        "sources/77",
        "jobs/77",
    ):
        assert client.get(f"/api/{path}").status_code == 404, path
