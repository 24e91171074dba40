"""The REST interface as a real server process: jobs run for real."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from conftest import Processed
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.batch.jobs import JobRunner, cancel, submit
from dsa110_contimg.client import Client, ClientError, JobFailedError
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.registry import jobs as registered_jobs
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job, TileImage
from dsa110_contimg.registry.states import JobState
from servers import Server

SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def server(processed: Processed) -> Iterator[httpx.Client]:
    with (
        Server(processed.root) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield client


def _finished(client: httpx.Client, job: int) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = client.get(f"/api/jobs/{job}/status").json()
        if status["status"] not in ("queued", "running"):
            return status
        time.sleep(0.1)
    raise AssertionError("the job did not end")


def test_a_mosaic_job_runs_for_real(server: httpx.Client, processed: Processed) -> None:
    answer = server.post(
        "/api/jobs/",
        json={
            "type": "mosaic",
            "params": {"name": "my_mosaic", "method": "pbweighted", "since": 1700000000},
        },
    )
    assert answer.status_code == 201
    job = answer.json()["id"]
    assert isinstance(job, int)
    status = _finished(server, job)
    assert status["status"] == "done", status
    result = server.get(f"/api/jobs/{job}").json()["result"]
    path = Path(result["path"])
    assert path.is_relative_to(processed.root / "products")
    assert read_fits(path).header["METHOD"] == "pbweighted"
    assert "done" in server.get(f"/api/jobs/{job}/logs").text
    made = Client(str(server.base_url)).job(job)
    assert {"my_mosaic.fits", "my_mosaic.png", "my_mosaic_rms.fits"} < set(made.files())
    kept = made.download("my_mosaic.fits", processed.root / "fetched.fits")
    assert kept.read_bytes() == path.read_bytes()
    head = server.head(f"/api/jobs/{job}/files/my_mosaic.fits")
    assert head.headers["content-type"] == "application/fits"
    assert int(head.headers["content-length"]) == path.stat().st_size
    page = server.get(f"/jobs/{job}").text
    assert f'<img src="/api/jobs/{job}/files/my_mosaic.png"' in page
    assert f'href="/api/jobs/{job}/files/my_mosaic.fits"' in page
    assert server.get(f"/api/jobs/{job}/files/../../../state/products.sqlite3").status_code == 404
    assert server.get(f"/api/jobs/{job}/files/..%2f..%2f..%2fms").status_code == 404


def test_a_job_that_cannot_be_done_fails_with_its_reason(server: httpx.Client) -> None:
    answer = server.post(
        "/api/jobs/", json={"type": "mosaic", "params": {"name": "x", "since": 4000000000}}
    )
    status = _finished(server, answer.json()["id"])
    assert status["status"] == "failed"
    assert "no imaged tile" in str(status["error"])


@pytest.mark.parametrize(
    "body",
    [
        {"type": "nothing", "params": {}},
        {"type": "mosaic", "params": {}},
        {"type": "mosaic", "params": {"name": "x", "method": "median"}},
        {"type": "mosaic", "params": {"name": "x", "colour": 1}},
        {"type": "mosaic", "params": {"name": "x", "output": "/etc/x.fits"}},
        {"type": "mosaic", "params": {"name": "x", "output": "products/../../x.fits"}},
        {"type": "pipeline", "params": {"files": ["/etc/passwd"]}},
        {"type": "mosaic", "params": {"name": "x", "options": {"bogus": 1}}},
        {"type": "reprocess", "params": {"name": "x", "options": {"image": {"robust": 99}}}},
        {"type": "image", "params": {"ms": "ms/nothing.ms"}},
        {"type": "mosaic", "extra": 1},
    ],
)
def test_a_wrong_request_is_refused_and_queues_nothing(
    body: dict[str, object], server: httpx.Client
) -> None:
    before = len(server.get("/api/jobs/").json())
    answer = server.post("/api/jobs/", json=body)
    assert answer.status_code == 422
    assert "Traceback" not in answer.text
    assert len(server.get("/api/jobs/").json()) == before


def test_published_products_are_not_replaced_by_a_job(
    server: httpx.Client, processed: Processed
) -> None:
    published = processed.result[PublishedMosaic].path
    body = {"type": "mosaic", "params": {"name": "x", "output": str(published), "overwrite": True}}
    assert server.post("/api/jobs/", json=body).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"X-Forwarded-For": "10.0.0.1"}],
)
def test_only_a_local_request_may_write(headers: dict[str, str], server: httpx.Client) -> None:
    body = {"type": "mosaic", "params": {"name": "x"}}
    assert server.post("/api/jobs/", json=body, headers=headers).status_code == 403


def test_the_same_key_gives_the_same_job(server: httpx.Client) -> None:
    body = {"type": "mosaic", "params": {"name": "x", "since": 4000000000}}
    headers = {"Idempotency-Key": "once"}
    one, two = (server.post("/api/jobs/", json=body, headers=headers).json()["id"] for _ in "ab")
    assert one == two
    other = {"type": "mosaic", "params": {"name": "y", "since": 4000000000}}
    clash = server.post("/api/jobs/", json=other, headers=headers)
    assert clash.status_code == 409
    assert f"job {one}" in clash.json()["detail"]


def test_an_input_that_an_earlier_job_will_make_is_accepted(processed: Processed) -> None:
    settings = settings_module.load(root=processed.root)
    registry = Registry.of(settings)
    (ms, *_) = processed.result[ConvertedTiles].tiles
    first = submit(
        registry, settings, "apply", {"ms": str(ms.ms_path), "tables": "caltables", "output": None}
    )
    coming = f"products/jobs/{first.id}/calibrated.ms"
    assert submit(registry, settings, "image", {"ms": coming}).id > first.id
    with pytest.raises(UsageError, match="no job that waits makes it"):
        submit(registry, settings, "image", {"ms": "products/jobs/99999/calibrated.ms"})
    for job in registered_jobs.job_numbers(registry, [JobState.QUEUED]):
        cancel(registry, job)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/api/sources?behavior=variable", "'behavior' is unknown; did you mean 'behaviour'?"),
        ("/api/sources?behaviour=nonsense", "behaviour: Input should be 'unknown', 'constant'"),
        ("/api/tiles?colour=red", "'colour' is unknown; there are since, until, state, limit"),
        ("/api/jobs/?kind=mosaic", "'kind' is unknown"),
        ("/api/sources?ra=999&dec=1", "ra: Input should be less than or equal to 360"),
        ("/api/mosaics?since=yesterday", "since: time 'yesterday': give an ISO time"),
        ("/api/status?x=1", "'x' is unknown; there are none here"),
    ],
)
def test_a_query_that_is_not_understood_is_refused_in_one_line(
    address: str, said: str, server: httpx.Client
) -> None:
    answer = server.get(address)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_how_many_sources_there_are_is_in_the_header(server: httpx.Client) -> None:
    one = server.get("/api/sources", params={"limit": 1})
    assert len(one.json()) == 1
    assert int(one.headers["X-Total-Count"]) > 1


def test_the_client_says_in_one_line_that_nobody_answers() -> None:
    with pytest.raises(ClientError, match=r"http://127\.0\.0\.1:9 does not answer") as nobody:
        Client("http://127.0.0.1:9").get("/api/status")
    assert nobody.value.status == 0


def test_jobs_are_listed_and_unknown_ones_are_not_there(server: httpx.Client) -> None:
    listed = server.get("/api/jobs/", params={"limit": 1}).json()
    assert len(listed) == 1
    assert server.get("/api/jobs/999999/status").status_code == 404
    assert server.get("/api/jobs/99999999999999999999").status_code == 422
    status = server.get("/api/status").json()
    assert status["mosaics"] == {"published": 1}
    assert server.get("/api/mosaics").json()[0]["state"] == "published"
    assert server.delete(f"/api/jobs/{listed[0]['id']}").status_code in (200, 409)


def test_a_second_server_leaves_the_first_one_s_jobs_alone_and_takes_over_when_it_dies(
    tmp_path: Path,
) -> None:
    settings = settings_module.load(root=tmp_path)
    (tmp_path / "state").mkdir()
    registry = Registry.of(settings)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "runs\n"
    with registry.write() as session:
        job = Job(type="mosaic", params={}, state=JobState.RUNNING, created=time.time())
        session.add(job)
    runner = JobRunner(registry, settings)
    queued = submit(registry, settings, "mosaic", {"name": "mine"})
    runner.look()
    assert _states(registry) == {job.id: "running", queued.id: "queued"}
    runner.start()
    try:
        holder.kill()
        deadline = time.monotonic() + 60
        while set(_states(registry).values()) != {"failed"} and time.monotonic() < deadline:
            time.sleep(0.1)
        with registry.read() as session:
            assert "the server ended" in session.get_one(Job, job.id).error
            assert "no imaged tile" in session.get_one(Job, queued.id).error, "it ran"
    finally:
        runner.stop()
        holder.kill()
        holder.communicate()


_HOLDER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from dsa110_contimg import settings
from dsa110_contimg.batch.jobs import JobRunner
from dsa110_contimg.registry.database import Registry
held = settings.load(root=Path(sys.argv[1]))
runner = JobRunner(Registry.of(held), held)
runner.look()
print("runs", flush=True)
time.sleep(600)
"""


def _states(registry: Registry) -> dict[int, str]:
    with registry.read() as session:
        return {job.id: str(job.state) for job in session.scalars(select(Job))}


def test_each_stage_is_a_job_and_gives_what_the_command_line_gives(
    server: httpx.Client, processed: Processed, tmp_path: Path
) -> None:
    client = Client(str(server.base_url))
    root = processed.root
    with Registry.of(settings_module.load(root=root)).read() as session:
        tile = session.scalars(select(TileImage)).first()
    calibrated = next((root / "ms").glob(f"{tile.tile_id}_cal_*"))
    options = {"size": 256, "averaging_loss": 0.0}
    made = client.submit("image", ms=str(calibrated.relative_to(root)), options=options).wait(120)
    prefix = Path(made["prefix"])
    assert prefix.is_relative_to(root / "products" / "jobs")
    command = [
        SCRIPTS / "dsa110-contimg",
        "image",
        calibrated,
        "--output",
        tmp_path / "t",
        "--size",
        "256",
        "--averaging-loss",
        "0",
        "--root",
        root,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    ours = read_fits(prefix.with_name(f"{prefix.name}.image.fits"))
    theirs = read_fits(tmp_path / "t.image.fits")
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    mosaic = processed.result[PublishedMosaic].path
    checked = client.submit("validate", mosaic=str(mosaic)).wait(120)
    assert checked["verdict"] == "passed"
    matched = client.submit("crossmatch", mosaic=str(mosaic), output="products/mine.fits").wait(120)
    assert matched["n_matched"] > 3
    assert (root / "products" / "mine.fits").exists()
    again = client.submit("crossmatch", mosaic=str(mosaic), output="products/mine.fits")
    with pytest.raises(JobFailedError, match="exists already"):
        again.wait(120)


def test_logs_stream_until_the_job_ends(server: httpx.Client) -> None:
    job = server.post("/api/jobs/", json={"type": "mosaic", "params": {"name": "streamed"}}).json()
    lines = []
    with server.stream("GET", f"/api/jobs/{job['id']}/logs/stream", timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith("event: end"):
                break
    assert any("mosaic 1/1" in line for line in lines), lines
    printed = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert printed == server.get(f"/api/jobs/{job['id']}/logs").text.splitlines()


def test_published_files_and_pieces_of_them_are_downloaded(
    server: httpx.Client, processed: Processed, tmp_path: Path
) -> None:
    mosaic = processed.result[PublishedMosaic]
    image = read_fits(mosaic.path)
    client = Client(str(server.base_url))
    whole = client.download(mosaic.path.name, str(tmp_path / "whole.fits"))
    assert whole.read_bytes() == mosaic.path.read_bytes()
    part = server.get(f"/api/files/{mosaic.path.name}", headers={"Range": "bytes=0-79"})
    assert (part.status_code, len(part.content)) == (206, 80)
    y, x = np.unravel_index(np.nanargmax(image.pixels), image.pixels.shape)
    ra, dec = (float(v) for v in image.wcs.all_pix2world([[x, y]], 0)[0])
    query = {"ra": ra % 360, "dec": dec, "size": 30.0}
    cut = server.get(f"/api/mosaics/{mosaic.name}/cutout", params={**query, "format": "fits"})
    (tmp_path / "cut.fits").write_bytes(cut.content)
    piece = read_fits(tmp_path / "cut.fits")
    at_x, at_y = (round(float(v)) for v in piece.wcs.all_world2pix([[ra, dec]], 0)[0])
    assert piece.pixels[at_y, at_x] == image.pixels[y, x]
    by_client = client.get(f"/api/mosaics/{mosaic.name}/cutout", **query, format="fits")
    assert by_client == cut.content
    head = server.head(f"/api/files/{mosaic.path.name}")
    assert (head.status_code, head.content) == (200, b"")
    table = server.head(f"/api/files/{mosaic.name}_sources.vot")
    assert table.headers["content-type"] == "application/x-votable+xml"
    large = server.get(f"/api/mosaics/{mosaic.name}/cutout", params={**query, "size": 600})
    assert "has at most" in large.json()["detail"]
    picture = server.get(f"/api/mosaics/{mosaic.name}/cutout", params=query)
    assert picture.content.startswith(b"\x89PNG")
    nowhere = {"ra": (ra + 180) % 360, "dec": dec}
    away = server.get(f"/api/mosaics/{mosaic.name}/cutout", params=nowhere)
    assert (away.status_code, "does not cover" in away.text) == (422, True)


@pytest.mark.parametrize(("timeout_s", "patient"), [(60.0, True), (0.5, False)])
def test_the_client_sends_again_what_came_too_soon(timeout_s: float, patient: bool) -> None:
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["Idempotency-Key"])
            busy = len(asked) < 3
            self.send_response(429 if busy else 201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After", "0" if patient else "1")
            self.end_headers()
            self.wfile.write(b'{"detail": "too many requests"}' if busy else b'{"id": 7}')

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Busy) as busy_server:
        threading.Thread(target=busy_server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{busy_server.server_port}", timeout_s=timeout_s)
        if patient:
            assert client.submit("mosaic", "once", name="mine").id == 7
            assert asked == ["once"] * 3
        else:
            with pytest.raises(ClientError, match="too many requests"):
                client.submit("mosaic", "once", name="mine")
            assert asked == ["once"]
        busy_server.shutdown()
