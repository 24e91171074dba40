"""Observations are processed again with other options, beside what is published."""

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from dsa110_contimg import layout
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch.kinds import ReprocessJob
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Base, Mosaic


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".fits", ".png")}


def _rows(registry: Registry) -> dict[str, int]:
    with registry.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def test_with_the_same_options_it_is_the_published_mosaic_on_one_worker_and_on_two(
    streamed: Path, tmp_path: Path
) -> None:
    registry = Registry.of(settings_module.load(root=streamed))
    with registry.read() as session:
        (name,) = session.scalars(select(Mosaic.name))
    before = _rows(registry)
    for workers in ("1", "2"):
        done = CliRunner().invoke(
            app,
            [
                "reprocess",
                "--root",
                str(streamed),
                "--name",
                name,
                "--workers",
                workers,
                "--output",
                str(tmp_path / workers),
            ],
        )
        assert done.exit_code == 0, done.output
    made = _content(tmp_path / "1")
    assert made == _content(tmp_path / "2")
    published = _content(layout.published_mosaics(streamed))
    assert made == {key: published[key] for key in made}
    assert len(made) == 5
    assert _rows(registry) == before, "no row was written"
    assert not (tmp_path / "1" / "work").exists()
    trail = json.loads((tmp_path / "1" / f"{name}.json").read_text())
    assert trail["tiles"] == [made["tile"]["tile_id"] for made in trail["calibrated"]]


def test_other_options_and_fewer_tiles_make_another_mosaic(streamed: Path, tmp_path: Path) -> None:
    run = CliRunner()
    common = ["reprocess", "--root", str(streamed), "--name", "mine", "--workers", "2"]
    done = run.invoke(
        app,
        [
            *common,
            "--output",
            str(tmp_path / "a"),
            "--since",
            "2026-01-25T22:05:30",
            "--json",
            "--option",
            "image.robust=-1",
            "--option",
            "mosaic.method=pbweighted",
            "--keep-work",
        ],
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert (told["n_tiles"], told["verdict"]) == (2, "passed")
    header = read_fits(Path(told["path"])).header
    assert header["METHOD"] == "pbweighted"
    assert len(list((tmp_path / "a" / "work" / "images").iterdir())) == 2
    public = next(
        p for p in layout.published_mosaics(streamed).glob("*.fits") if p.stem.count("_") == 2
    )
    compared = run.invoke(
        app, ["compare", str(public), told["path"], "--root", str(streamed), "--json"]
    )
    found = json.loads(compared.stdout[compared.stdout.index("{") :])
    assert found["n_sources"] > 3
    assert found["flux_ratio"] == pytest.approx(1.0, abs=0.1)
    assert not np.isnan(found["east_arcsec"])


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({"since": 2e9}, NothingToDo, "no Measurement Set is kept"),
        ({"declination": (60.0, 70.0)}, NothingToDo, "no Measurement Set is kept"),
        ({"tiles": ("nobody",)}, UsageError, "tile nobody"),
        ({"options": {"image": {"size": 3}}}, UsageError, "option image.size"),
        ({"options": {"magic": {}}}, UsageError, "no such stage"),
        ({"output": "."}, UsageError, "exists already"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_nothing(
    params: dict[str, object], kind: type[Exception], message: str, streamed: Path, tmp_path: Path
) -> None:
    settings = settings_module.load(root=streamed)
    output = tmp_path / str(params.get("output", "out"))
    request = ReprocessJob(name="mine", **{"output": str(output), **params})
    with pytest.raises(kind, match=message):
        request.run(settings, Registry.of(settings), PipelineContext(streamed), output)
    assert not (tmp_path / "out").exists()
