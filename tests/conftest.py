"""Shared: a small simulated run and a root that it was processed in."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator, PipelineResult
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import catalogues
from dsa110_contimg.stages import graphs
from dsa110_contimg.stages.options import PipelineOptions, options_from

SMALL_TOML = """
sky_catalog = "known"
group_size = 3
group_overlap = 1
retry_delay_s = 0.0
[image]
size = 512
averaging_loss = 0.0
[validate]
expected_rms_jy = 0.05
"""


@dataclass(frozen=True)
class SmallRun:
    """Files of three short observations of one strip, and their truth."""

    directory: Path
    run: hour.Run
    files: tuple[tuple[Path, ...], ...]


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
    from dsa110_contimg import settings

    return options_from(settings.load(root=root))


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
    context = PipelineContext(root, {"subband_files": files})
    result = PipelineOrchestrator(graphs.from_subbands(small_options(root))).run(context)
    return Processed(root, small_run.run, result.raise_on_failure())


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
