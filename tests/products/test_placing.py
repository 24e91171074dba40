"""Files get their public names on file systems without hard links or maps too."""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg import durable
from dsa110_contimg.cli.setup import examine
from dsa110_contimg.errors import PermanentError
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.products.publish import publish_file, sha256
from dsa110_contimg.settings import Settings


@pytest.fixture(params=["hard link", "rename without replacing", "exclusive creation"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the ways, those before it being refused as exFAT and some of FUSE do."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param != "hard link":
        monkeypatch.setattr(os, "link", refuse)
    if request.param == "exclusive creation":
        monkeypatch.setattr(durable, "_rename_new", lambda *_: False)
    return str(request.param)


@pytest.mark.accepts(
    "File systems",
    "No hard links (exFAT, some of FUSE)",
    "products get their names in another way, which doctor names",
)
def test_a_product_is_published_once_on_any_file_system(way: str, tmp_path: Path) -> None:
    assert durable.way_to_place(tmp_path) == way
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    public = tmp_path / "products" / "m.fits"
    assert publish_file(tmp_path / "a", public) == sha256(public)
    # Again is nothing; another product is refused.
    publish_file(tmp_path / "a", public)
    with pytest.raises(PermanentError, match="never overwritten"):
        publish_file(tmp_path / "b", public)
    assert public.read_text() == "one"
    publish_file(tmp_path / "b", public, orphaned=True)
    assert public.read_text() == "two"
    assert sorted(path.name for path in public.parent.iterdir()) == ["m.fits"]
    # The trial leaves nothing.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "products"]


def test_doctor_says_how(way: str, tmp_path: Path) -> None:
    found = {what: (verdict, why) for what, verdict, why in examine(Settings(root=tmp_path))}
    verdict, why = found["placing files"]
    assert way in why
    assert verdict == ("warning" if way == "exclusive creation" else "ok")


@pytest.mark.accepts(
    "File systems",
    "No maps of files (some of FUSE)",
    "images are held in memory while they are written",
)
def test_images_are_written_where_files_cannot_be_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    image = Image(pixels, (1.0, 0.3), (2.0, 1.0), 1e-5, "SIN", None, "Jy/beam", 1.4e9)
    write_fits(tmp_path / "mapped.fits", image)
    monkeypatch.setattr(mmap, "mmap", refuse)
    write_fits(tmp_path / "held.fits", image)
    monkeypatch.undo()
    assert (tmp_path / "held.fits").read_bytes() == (tmp_path / "mapped.fits").read_bytes()
    assert np.array_equal(read_fits(tmp_path / "held.fits").pixels, pixels)


@pytest.mark.accepts(
    "File systems",
    "No allocation of space (exFAT and others through FUSE)",
    "the C library writes the blocks instead",
)
def test_images_are_written_where_space_cannot_be_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emulate(handle: int, offset: int, length: int) -> None:
        """Read each block and write a byte of it, as glibc does."""
        for place in range(offset, length, 512):
            os.pread(handle, 1, place)
            os.pwrite(handle, os.pread(handle, 1, place) or b"\0", place)

    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    image = Image(pixels, (1.0, 0.3), (2.0, 1.0), 1e-5, "SIN", None, "Jy/beam", 1.4e9)
    monkeypatch.setattr(os, "posix_fallocate", emulate)
    write_fits(tmp_path / "image.fits", image)
    assert np.array_equal(read_fits(tmp_path / "image.fits").pixels, pixels)
