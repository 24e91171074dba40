"""Calls on a real Dask cluster: workers and scheduler die, calls are answered all the same."""

import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cluster_calls import complain, double, heavy, hold_the_interpreter, write_slowly
from clusters import Cluster
from conftest import Processed, SmallRun, make_root
from daemons import PROGRAMS, until
from dsa110_contimg import settings as settings_module
from dsa110_contimg import software
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.cli.setup import examine
from dsa110_contimg.errors import BadInputError, RetryableError, UsageError
from dsa110_contimg.executors.cluster.security import make_keys
from dsa110_contimg.executors.fresh import FreshPath
from dsa110_contimg.executors.opening import open_executor
from dsa110_contimg.executors.priority import Priority
from dsa110_contimg.imaging.image_reader import read_fits

SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    own = {"PYTHONPATH": str(SUPPORT), "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), own)
    try:
        cluster.start_scheduler()
        cluster.start_worker("--slots", "2", "--memory-gb", "5")
        yield cluster
    finally:
        cluster.close()


def _running(marks: Path) -> int:
    """The process in which `write_slowly` has begun."""
    until(lambda: len(list(marks.iterdir())) == 2, 60.0, 0.05)
    return next(int(path.name) for path in marks.iterdir() if path.name.isdigit())


@pytest.fixture(autouse=True)
def lost_sockets() -> Iterator[None]:
    """Collect them here: a client of Dask drops what it was connecting again with."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_results_and_errors_are_those_of_the_call(cluster: Cluster) -> None:
    with open_executor(cluster.settings()) as executor:
        calls = [executor.submit(double, number=number) for number in range(30)]
        wrong = executor.submit(complain)
        assert [call.result(60) for call in calls] == list(range(0, 60, 2))
        with pytest.raises(BadInputError, match="cut short"):
            wrong.result(60)
        assert executor.capacity == 2


def test_doctor_asks_the_cluster(cluster: Cluster) -> None:
    told = {what: (verdict, why) for what, verdict, why in examine(cluster.settings())}
    assert told["cluster"][0] == "ok"
    assert "2 calls" in told["cluster"][1]


def test_what_cannot_be_interrupted_ends_at_its_time_out_and_the_slot_works_again(
    cluster: Cluster,
) -> None:
    with open_executor(cluster.settings(), timeout_s=4.0) as executor:
        assert executor.submit(double, number=1).result(60) == 2
        begin = time.monotonic()
        stuck = [executor.submit(hold_the_interpreter) for _ in range(2)]
        for call in stuck:
            with pytest.raises(RetryableError, match="time-out"):
                call.result(60)
        assert time.monotonic() - begin < 14.0
        assert executor.submit(double, number=2).result(60) == 4


def test_a_cancelled_call_is_killed_where_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    with open_executor(cluster.settings()) as executor:
        output = FreshPath(tmp_path, "made")
        call = executor.submit(write_slowly, marks=tmp_path, output=output, seconds=600.0)
        pid = _running(tmp_path)
        call.cancel()
        with pytest.raises(RetryableError, match="cancelled"):
            call.result(60)
        until(lambda: not Path(f"/proc/{pid}").exists(), 20.0, 0.05)
        assert executor.submit(double, number=3).result(60) == 6


def test_a_worker_is_never_given_more_than_its_memory(cluster: Cluster) -> None:
    # Two programs, which do not know of each other.
    with open_executor(cluster.settings()) as one, open_executor(cluster.settings()) as other:
        calls = [executor.submit(heavy, seconds=1.0) for executor in (one, one, other, other)]
        spans = sorted(call.result(60) for call in calls)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_a_call_whose_worker_left_is_given_to_another(cluster: Cluster, tmp_path: Path) -> None:
    with open_executor(cluster.settings()) as executor:
        extra = cluster.start_worker("--slots", "4", "--memory-gb", "5")
        until(lambda: executor.capacity == 6, 60.0, 0.05)
        output = FreshPath(tmp_path, "made")
        # To the one with the most free slots.
        call = executor.submit(write_slowly, marks=tmp_path, output=output, seconds=5.0)
        pid = _running(tmp_path)
        cluster.kill_worker(extra)
        until(lambda: not Path(f"/proc/{pid}").exists(), 20.0, 0.05)
        name = call.result(60)
        assert executor.capacity == 2
    made = {path.name for path in tmp_path.iterdir() if not path.name.isdigit()}
    assert name in made
    assert len(made) == 2, "each execution has a path of its own"


def test_a_frozen_worker_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    with open_executor(cluster.settings()) as executor:
        extra = cluster.start_worker("--slots", "4", "--memory-gb", "5")
        until(lambda: executor.capacity == 6, 60.0, 0.05)
        os.kill(extra.pid, signal.SIGSTOP)
        calls = [executor.submit(double, number=number) for number in range(4)]
        assert [call.result(150) for call in calls] == [0, 2, 4, 6]
        cluster.kill_worker(extra)


def test_calls_wait_for_a_scheduler_that_is_away(cluster: Cluster, tmp_path: Path) -> None:
    with open_executor(cluster.settings()) as executor:
        assert executor.submit(double, number=1).result(60) == 2
        output = FreshPath(tmp_path, "made")
        running = executor.submit(write_slowly, marks=tmp_path, output=output, seconds=3.0)
        until(lambda: any(tmp_path.iterdir()), 60.0, 0.05)
        cluster.kill_scheduler()
        waiting = executor.submit(double, number=5)
        until(lambda: executor.capacity == 0, 60.0, 0.05)
        cluster.start_scheduler()
        assert waiting.result(120) == 10
        assert running.result(120).startswith("made_")
        assert executor.capacity == 2, "the worker came back by itself"


def test_calls_survive_a_connection_that_breaks(cluster: Cluster, tmp_path: Path) -> None:
    with open_executor(cluster.settings()) as executor:
        output = FreshPath(tmp_path, "made")
        call = executor.submit(write_slowly, marks=tmp_path, output=output, seconds=4.0)
        pid = _running(tmp_path)
        # The client connects again by itself, and has forgotten what it had given.
        executor._client.scheduler_comm.comm.abort()
        assert call.result(60).startswith("made_")
        until(lambda: not Path(f"/proc/{pid}").exists(), 20.0, 0.05)


def test_what_a_killed_program_had_given_ends(cluster: Cluster, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom cluster_calls import write_slowly\n"
        "from dsa110_contimg import settings\n"
        "from dsa110_contimg.executors.opening import open_executor\n"
        "given = {'scheduler': sys.argv[2]}\n"
        "executor = open_executor(settings.load(root=sys.argv[1], executor=given))\n"
        "marks = Path(sys.argv[3])\n"
        "executor.submit(write_slowly, marks=marks, output=marks / 'x', seconds=600.0).result()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, cluster.root, cluster.address, tmp_path],
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdout=subprocess.DEVNULL,
    )
    pid = _running(tmp_path)
    process.kill()
    process.wait()
    until(lambda: not Path(f"/proc/{pid}").exists(), 30.0, 0.05)


def test_on_a_worker_too_conversion_goes_before_batch(cluster: Cluster) -> None:
    settings = cluster.settings()
    with (
        open_executor(settings, priority=Priority.BATCH) as batch,
        open_executor(settings, priority=Priority.CONVERSION) as conversion,
    ):
        until(lambda: batch.capacity == conversion.capacity == 2, 60.0, 0.05)
        first = [batch.submit(heavy, seconds=2.0), batch.submit(heavy, seconds=0.1)]
        last = batch.submit(heavy, seconds=0.1)
        time.sleep(1.0)
        urgent = conversion.submit(heavy, seconds=0.1)
        begun = urgent.result(60)[0]
        assert begun < last.result(60)[0]
        assert first[0].result(60)[1] <= begun


def test_a_worker_stops_kindly_while_its_scheduler_is_away(tmp_path: Path) -> None:
    make_keys(tmp_path / "state" / "tls")
    lonely = Cluster(tmp_path)
    worker = lonely.start_worker("--slots", "1")
    log = tmp_path / "worker.log"
    until(lambda: "looking for the scheduler" in log.read_text(), 60.0, 0.1)
    worker.terminate()
    assert worker.wait(15) == 0


def test_a_worker_of_other_versions_is_not_used(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {**software.versions(), "ducc0": "0.1"}
    monkeypatch.setattr(software, "versions", lambda: ours)
    with open_executor(cluster.settings()) as executor:
        call = executor.submit(double, number=1)
        told = threading.Event()

        def look() -> bool:
            if "other versions" in "".join(texts := [*seen, capsys.readouterr().out]):
                told.set()
            seen[:] = texts
            return told.is_set()

        seen: list[str] = []
        until(look, 60.0, 0.1)
        assert "0.1 here" in "".join(seen)
        assert not call.done()
        assert executor.capacity == 0
        call.cancel()


def test_nobody_without_the_keys_gets_in(cluster: Cluster, tmp_path: Path) -> None:
    make_keys(tmp_path / "others")
    host, port = cluster.address.removeprefix("tls://").split(":")
    for own in (None, tmp_path / "others"):
        trusting = ssl.create_default_context(cafile=cluster.root / "state" / "tls" / "cert.pem")
        trusting.check_hostname = False
        if own is not None:
            trusting.load_cert_chain(own / "cert.pem", own / "key.pem")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            with trusting.wrap_socket(plain) as channel, pytest.raises(ssl.SSLError):
                channel.recv(1)
    key = cluster.root / "state" / "tls" / "key.pem"
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="scheduler"):
        settings_module.load(root=tmp_path, executor={"scheduler": "tcp://127.0.0.1:8786"})
    away = settings_module.load(root=tmp_path, executor={"scheduler": "tls://127.0.0.1:8786"})
    with pytest.raises(UsageError, match=r"has no cert\.pem and key\.pem"):
        open_executor(away)


def test_a_pipeline_on_the_cluster_makes_the_bytes_that_it_makes_here(
    cluster: Cluster, small_run: SmallRun, processed: Processed, tmp_path: Path
) -> None:
    root = make_root(tmp_path / "root", small_run)
    command = [
        PROGRAMS / "dsa110-contimg",
        "pipeline",
        small_run.directory,
        "--root",
        root,
        "--scheduler",
        cluster.address,
    ]
    keys = {"CONTIMG_EXECUTOR__TLS_DIRECTORY": str(cluster.root / "state" / "tls")}
    done = subprocess.run(
        command, env={**os.environ, **keys}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    here = processed.result[PublishedMosaic].path
    (there,) = (root / "products" / "mosaics").glob(f"{here.stem}.fits")
    assert read_fits(there).pixels.tobytes() == read_fits(here).pixels.tobytes()
