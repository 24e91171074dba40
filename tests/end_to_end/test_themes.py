"""Both themes at work on one root, with the commands as their users write them.

Two daemons, a server and batch users share a database, once SQLite and once PostgreSQL. The marker
`row` says which row of docs/themes.md a test is about.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

import daemons
from conftest import SMALL_TOML, Processed, new_postgres_database
from daemons import free_port
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch import plans
from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.client import Client
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job, Mosaic, MosaicGroup, Product, Tile
from dsa110_contimg.settings import pipeline_options
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.stages.calibration_solve import reference_order
from dsa110_contimg.streaming import StreamingMosaicManager

BIN = Path(sys.executable).parent
THEMES = Path(__file__).parents[2] / "docs" / "themes.md"
START = datetime.fromtimestamp(1_700_003_600, UTC)
FIRST = 3
row = pytest.mark.row


until = partial(daemons.until, seconds=150.0, every_s=0.2)


@dataclass
class Observatory:
    """A root with both daemons and a server, started as their users start them."""

    root: Path
    incoming: Path
    run: hour.Run
    environment: dict[str, str]
    port: int
    registry: Registry
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *command: object) -> None:
        name = str(command[0])
        with (self.root / f"{name}.log").open("wb") as log:
            self.programs[name] = subprocess.Popen(
                [str(BIN / name), *map(str, command[1:])],
                cwd=self.root,
                stdout=log,
                stderr=log,
                env=self.environment,
            )

    def call(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / str(command[0])), *map(str, command[1:])],
            cwd=self.root,
            timeout=120,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def curl(self, *arguments: str) -> dict[str, object]:
        done = subprocess.run(
            ["curl", "--silent", *arguments], capture_output=True, check=True, timeout=60
        )
        return dict(json.loads(done.stdout))

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def published(self) -> list[Path]:
        return sorted(
            path
            for path in (self.root / "products" / "mosaics").glob("mosaic_*.fits")
            if path.stem.count("_") == 2
        )

    def arrive(self, first: int, last: int) -> None:
        hidden = self.incoming / ".arriving"
        hidden.mkdir(exist_ok=True)
        for number in range(first, last):
            for path in self.run.write(hidden, number):
                path.rename(self.incoming / path.name)


_DATABASES = {
    kind: pytest.param(kind, marks=pytest.mark.xdist_group(f"themes-{kind}"))
    for kind in ("sqlite", "postgresql")
}
on_sqlite = pytest.mark.parametrize("observatory", [_DATABASES["sqlite"]], indirect=True)
"""For what asks the database nothing that streaming does not."""


@pytest.fixture(scope="module", params=_DATABASES.values())
def observatory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observatory]:
    base = tmp_path_factory.mktemp(f"themes_{request.param}")
    root, incoming = base / "dsa110-contimg", base / "incoming"
    root.mkdir()
    incoming.mkdir()
    if request.param == "sqlite":
        url = f"sqlite:///{root}/state/products.sqlite3"
    else:
        url = new_postgres_database(request.getfixturevalue("postgres"))
    (root / "contimg.toml").write_text(f"settle_s = 0.3\nleftover_s = 3600.0\n{SMALL_TOML}")
    run = hour.prepare(
        hour.RunOptions(
            groups=FIRST + 2, antennas=24, channels=1, integrations=8, seed=3, rfi=0.0, start=START
        )
    )
    catalogues.save(root, run.sky.catalogue("known"))
    port = free_port()
    environment = {**os.environ, "CONTIMG_ROOT": str(root), "CONTIMG_DATABASE_URL": url}
    (root / "state").mkdir()
    place = Observatory(root, incoming, run, environment, port, Registry(url, root))
    try:
        place.start(
            "dsa110-contimg-convert-stream",
            "--input-dir",
            incoming,
            "--output-dir",
            base / "stage" / "ms",
        )
        place.start("dsa110-contimg-streaming-mosaic", "--loop")
        place.start("dsa110-contimg", "serve", "--port", port)
        place.arrive(0, FIRST)
        until(lambda: bool(place.published()))
        yield place
    finally:
        for program in place.programs.values():
            program.send_signal(signal.SIGINT)
        for program in place.programs.values():
            try:
                program.wait(30)
            except subprocess.TimeoutExpired:
                program.kill()
        place.registry.close()


@row("Streaming: Progression")
@row("Streaming: Human interaction")
@row("Streaming: Default publishing")
@row("Side by side: Startup")
@row("Side by side: Primary use")
@row("Which one: process data that arrive continuously")
def test_data_flow_through_all_nine_stages_by_themselves(observatory: Observatory) -> None:
    def is_matched() -> bool:
        with observatory.registry.read() as session:
            mosaic = session.scalars(select(Mosaic)).one()
            return (mosaic.state, mosaic.crossmatch) == ("published", "done")

    until(is_matched)
    with observatory.registry.read() as session:
        mosaic = session.scalars(select(Mosaic)).one()
        kinds = set(session.scalars(select(Product.kind)))
    assert (mosaic.state, mosaic.verdict) == ("published", "passed")
    assert {"mosaic", "report", "provenance", "catalogue"} <= kinds
    log = (observatory.root / "dsa110-contimg-streaming-mosaic.log").read_text()
    for stage in (
        "calibrate",
        "apply",
        "image",
        "mosaic",
        "validate",
        "register",
        "publish",
        "crossmatch",
    ):
        assert f"stage={stage}" in log
    assert all(program.poll() is None for program in observatory.programs.values())


@row("Side by side: Output naming")
def test_streaming_names_and_the_user_names(observatory: Observatory) -> None:
    (mosaic,) = observatory.published()
    _, group, stamp = mosaic.stem.split("_")
    first = datetime.strptime(group, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert abs((first - START).total_seconds()) < 1
    assert first.timestamp() < int(stamp) < first.timestamp() + 3 * 8 * 13
    with observatory.registry.read() as session:
        assert session.scalar(select(MosaicGroup.id)) == group


@row("Batch: Specification")
@row("Batch: Human interaction")
@row("Batch: Default output")
@row("Which one: choose a time range")
@row("Which one: process old data again")
@row("Side by side: Data selection")
@on_sqlite
def test_plan_and_build_as_a_researcher_writes_them(observatory: Observatory) -> None:
    output = observatory.root / "my_output.image"
    planned = observatory.call(
        "dsa110-contimg-mosaic",
        "plan",
        "--name",
        "my_custom_mosaic",
        "--since",
        "1700000000",
        "--until",
        "1700100000",
        "--method",
        "weighted",
    )
    assert planned.returncode == 0, planned.stderr
    build = ("dsa110-contimg-mosaic", "build", "--name", "my_custom_mosaic")
    assert observatory.call(*build).returncode == 2, "where to write is the user's to say"
    dry = observatory.call(*build, "--output", output, "--dry-run")
    assert (dry.returncode, output.exists()) == (0, False), dry.stderr
    built = observatory.call(*build, "--output", output)
    assert built.returncode == 0, built.stderr
    assert output.is_dir()
    with observatory.registry.read() as session:
        tiles = list(session.scalars(select(Tile.id).order_by(Tile.start)))
    shown = observatory.call("dsa110-contimg-mosaic", "plans", "my_custom_mosaic", "--json")
    assert json.loads(shown.stdout)["tiles"] == tiles[:FIRST]


@row("Batch: Default source")
@row("Batch: Default method")
@row("Batch: Default time range")
@row("Batch: Default tiles")
@on_sqlite
def test_a_plan_of_nothing_but_a_name(observatory: Observatory) -> None:
    planned = observatory.call("dsa110-contimg-mosaic", "plan", "--name", "my_mosaic", "--json")
    assert planned.returncode == 0, planned.stderr
    assert len(json.loads(planned.stdout)["tiles"]) >= FIRST
    made = plans.load_plan(observatory.registry, "my_mosaic")
    assert made.options.method == "mean"
    assert not made.options.include_uncorrected
    assert made.selection == Selection()
    assert all(tile.beam_corrected for tile in made.tiles)
    bare = settings_module.load(root=observatory.root)
    assert bare.database == f"sqlite:///{observatory.root}/state/products.sqlite3"


@row("Which one: drive it from another system")
@row("Side by side: User interaction")
@row("Side by side: Typical volume")
@on_sqlite
def test_the_rest_examples(observatory: Observatory) -> None:
    until(lambda: _answers(observatory.url))
    job = observatory.curl(
        "-X",
        "POST",
        f"{observatory.url}/api/jobs/",
        "-H",
        "Content-Type: application/json",
        "-d",
        '{"type": "mosaic", "params": {"name": "my_mosaic", "method": "pbweighted", '
        '"since": 1700000000}}',
    )
    assert isinstance(job["id"], int)
    status = f"{observatory.url}/api/jobs/{job['id']}/status"
    until(lambda: observatory.curl(status)["status"] in ("done", "failed"))
    assert observatory.curl(status)["status"] == "done"
    result = Client(observatory.url).job(job["id"]).wait()
    assert read_fits(Path(str(result["path"]))).header["METHOD"] == "pbweighted"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/status").status_code == 200
    except httpx.TransportError:
        return False


@row("Which one: compare methods")
@row("Side by side: Reproducibility")
@row("Batch: Statefulness")
@on_sqlite
def test_one_request_by_command_rest_and_python_gives_equal_bytes(
    observatory: Observatory, tmp_path: Path
) -> None:
    until(lambda: _answers(observatory.url))
    for method in ("mean", "pbweighted"):
        asked = {"name": f"by_{method}", "method": method, "until": START.timestamp() + 250}
        made = Client(observatory.url).submit("mosaic", **asked).wait()
        rest = Path(made["path"]).parent
        folder = tmp_path / method
        folder.mkdir()
        assert (
            observatory.call(
                "dsa110-contimg-mosaic",
                "plan",
                "--name",
                asked["name"],
                "--method",
                method,
                "--until",
                asked["until"],
            ).returncode
            == 0
        )
        built = observatory.call(
            "dsa110-contimg-mosaic",
            "build",
            "--name",
            asked["name"],
            "--output",
            folder / f"by_{method}.fits",
        )
        assert built.returncode == 0, built.stderr
        registry = observatory.registry
        planned = plans.plan(
            registry,
            str(asked["name"]),
            Selection(until=asked["until"]),
            MosaicOptions(method=method),
        )
        for workers in (1, 2):
            place = tmp_path / f"{method}{workers}"
            place.mkdir()
            with LocalExecutor(workers, tmp_path / "slots") as executor:
                context = PipelineContext(place, executor=executor)
                plans.build(planned, place / f"by_{method}.fits", context=context)
            assert _content(place) == _content(folder)
        assert _content(rest) == _content(folder)
        assert len(_content(folder)) == 5


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".fits", ".png")}


@row("Batch: Fault handling")
@row("Batch: Lifetime")
@row("Batch: Progression")
@row("Side by side: Error handling")
@row("Side by side: Failure recovery")
@row("Side by side: Execution duration")
def test_what_cannot_be_done_ends_at_once_and_is_never_tried_again(
    observatory: Observatory,
) -> None:
    failed = observatory.call("dsa110-contimg-mosaic", "plan", "--name", "x", "--since", "4e9")
    assert (failed.returncode, "no imaged tile" in failed.stderr) == (1, True)
    until(lambda: _answers(observatory.url))
    client = Client(observatory.url)
    job = client.submit("mosaic", name="x", since=4e9)
    until(lambda: job.status()["status"] == "failed")
    done = client.submit("mosaic", name="after").wait()
    assert done["tile_ids"]
    assert job.status()["status"] == "failed", "only the user submits again"
    with observatory.registry.read() as session:
        ran = session.scalar(
            select(func.count()).where(Job.state == "failed", Job.params["name"].as_string() == "x")
        )
    assert ran == 1


@row("Which one: do both at once")
@row("Streaming: Fault handling")
@row("Streaming: Lifetime")
@row("Side by side: State persistence")
@row("Side by side: Concurrency")
def test_streaming_goes_on_beside_batch_and_bad_files_until_it_is_interrupted(
    observatory: Observatory,
) -> None:
    until(lambda: _answers(observatory.url))
    client = Client(observatory.url)
    jobs = [client.submit("mosaic", name=f"many_{n}") for n in range(3)]
    waiting = [job.status()["status"] for job in jobs]
    assert waiting.count("running") <= 1, "one job at a time"
    (observatory.incoming / "2023-11-15T23:00:00_sb00.hdf5").write_bytes(b"no HDF5")
    observatory.arrive(FIRST, FIRST + 2)

    def states() -> list[str]:
        with observatory.registry.read() as session:
            return list(session.scalars(select(MosaicGroup.state)))

    until(lambda: states() == ["published", "published"])
    for job in jobs:
        job.wait()
    with observatory.registry.read() as session:
        assert session.scalar(select(func.count(Tile.id))) == FIRST + 2
    assert len(observatory.published()) == 2
    for name in ("dsa110-contimg-convert-stream", "dsa110-contimg-streaming-mosaic"):
        program = observatory.programs.pop(name)
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0
        log = (observatory.root / f"{name}.log").read_text()
        assert "Traceback" not in log


@row("Streaming: Polling")
@row("Streaming: Default reference tile")
@row("Streaming: Default image")
@row("Streaming: Default mosaic")
def test_the_defaults_of_streaming(tmp_path: Path) -> None:
    settings = settings_module.load(root=tmp_path)
    options = pipeline_options(settings)
    assert (settings.poll_interval_s, settings.mosaic_interval_s) == (5.0, 60.0)
    assert (settings.group_size, options.calibrate.reference_tile) == (10, 5)
    assert reference_order(10, 5)[0] == 4
    image = ImagingOptions()
    assert (image.size, image.weighting) == (1024, "briggs")
    assert options.mosaic.method == "mean"


def test_groups_are_asked_for_in_the_seed_s_words(tmp_path: Path) -> None:
    settings = settings_module.load(root=tmp_path)
    registry = Registry.of(settings)
    with registry.write() as session:
        for number in range(12):
            session.add(
                Tile(
                    id=f"t{number:02d}",
                    time_key=float(number),
                    start=309.0 * number,
                    apparent_dec_deg=16.2,
                    last_arrival=0.0,
                    state="converted",
                )
            )
    manager = StreamingMosaicManager(registry, settings, InlineExecutor(), once=True)
    first, *rest = manager.get_next_complete_groups(n_ms=10, sliding_window=True)
    assert first == [f"t{number:02d}" for number in range(10)]
    assert rest == [["t08", "t09", "t10", "t11"]]
    registry.close()


def test_streaming_s_mosaic_is_also_batch_s(processed: Processed) -> None:
    """The nine stages are one code path: the same graph, whoever runs it."""
    assert [outcome.name for outcome in processed.result.outcomes] == [
        "convert",
        "calibrate",
        "apply",
        "image",
        "mosaic",
        "validate",
        "register",
        "publish",
        "crossmatch",
    ]


def test_every_row_of_the_themes_is_named_by_a_test() -> None:
    documented = set()
    heading = ""
    for line in THEMES.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        first = line.split("|")[1].strip() if line.startswith("|") else ""
        if first and first not in ("aspect", "you want to") and not set(first) <= set("-"):
            documented.add(f"{heading}: {first}")
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    named = set(re.findall(r'row\("([^"]+)"\)', tests))
    assert len(documented) > 35
    assert named == documented
