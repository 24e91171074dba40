"""The REST interface as a real server process: jobs run for real."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import Processed
from dsa110_contimg.imaging.fits_image import read_fits


@pytest.fixture(scope="module")
def server(processed: Processed) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "dsa110-contimg"), "serve", "--port", str(port),
         "--root", str(processed.root)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ),
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/api/status")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, "the server ended"
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(30)


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
        json={"type": "mosaic",
              "params": {"name": "my_mosaic", "method": "pbweighted", "since": 1700000000}},
    )  # fmt: skip
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
    published = processed.result["published"].path
    body = {"type": "mosaic", "params": {"name": "x", "output": str(published), "overwrite": True}}
    assert server.post("/api/jobs/", json=body).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"X-Forwarded-For": "10.0.0.1"},
    ],
)
def test_only_a_local_request_may_write(headers: dict[str, str], server: httpx.Client) -> None:
    body = {"type": "mosaic", "params": {"name": "x"}}
    assert server.post("/api/jobs/", json=body, headers=headers).status_code == 403


def test_the_same_key_gives_the_same_job(server: httpx.Client) -> None:
    body = {"type": "mosaic", "params": {"name": "x", "since": 4000000000}}
    headers = {"Idempotency-Key": "once"}
    one, two = (server.post("/api/jobs/", json=body, headers=headers).json()["id"] for _ in "ab")
    assert one == two


def test_jobs_are_listed_and_unknown_ones_are_not_there(server: httpx.Client) -> None:
    listed = server.get("/api/jobs/", params={"limit": 1}).json()
    assert len(listed) == 1
    assert server.get("/api/jobs/999999/status").status_code == 404
    assert server.get("/api/jobs/99999999999999999999").status_code == 422
    status = server.get("/api/status").json()
    assert status["mosaics"] == {"published": 1}
    assert server.get("/api/mosaics").json()[0]["state"] == "published"
    assert server.delete(f"/api/jobs/{listed[0]['id']}").status_code in (200, 409)
