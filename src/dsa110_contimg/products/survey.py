"""The sky of all published mosaics: a HiPS of each, and one of all together that grows with them.

A cell of the whole is made anew from every mosaic that reaches it and swapped in, and the list of
mosaics that are in it is written last. So whatever was cut short is done again, with the same
result, and a mosaic is never in it twice.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.products import hips
from dsa110_contimg.products.hips import Hips

ALL_SKY = "all_sky"
_LIST = "mosaics.json"


@dataclass(frozen=True)
class Survey:
    """What was done.

    Attributes
    ----------
    folder : Path
    added, removed : tuple of str
        Names of mosaics.
    n_cells : int
        Of the whole's finest order that were made anew.
    """

    folder: Path
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    n_cells: int = 0


def listed(folder: Path) -> set[str]:
    """Mosaics that are in the whole."""
    try:
        return set(json.loads((folder / ALL_SKY / _LIST).read_text()))
    except FileNotFoundError:
        return set()


def bring_up_to_date(folder: Path, published: Mapping[str, Path]) -> Survey:
    """Draw what is new and take away what is published no more.

    Parameters
    ----------
    folder : Path
        Of all HiPS.
    published : mapping of str to Path
        Every published mosaic's name and FITS file, whose noise map lies beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        before = listed(folder)
        if before == published.keys():
            return Survey(folder)
        _sweep(folder)
        added, removed = sorted(published.keys() - before), sorted(before - published.keys())
        touched: set[int] = set()
        like = Hips.open(folder / ALL_SKY)
        for name in added:
            one = _draw_mosaic(folder, name, published[name], like)
            like = like or one
            touched.update(one.numbers(one.order))
        going = [old for name in removed if (old := Hips.open(folder / name)) is not None]
        for old in going:
            touched.update(old.numbers(old.order))
        _draw_whole(folder, sorted(published), touched)
        for old in going:
            old.remove()
    return Survey(folder, tuple(added), tuple(removed), len(touched))


def _sweep(folder: Path) -> None:
    """Remove what was left by something that was killed; only the lock's holder writes here."""
    hidden = [*folder.glob(".*.*"), *(folder / ALL_SKY).rglob(".*.*")]
    for path in hidden:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _draw_mosaic(folder: Path, name: str, path: Path, like: Hips | None) -> Hips:
    """The HiPS of one mosaic, with the pixels and the stretch of another one."""
    finished = Hips.open(folder / name)
    if finished is not None:
        return finished
    image = read_fits(path)
    rms = read_fits(path.with_name(f"{path.stem}_rms.fits")).pixels
    order = like.order if like is not None else hips.order_for(image.cell_rad)
    rms_jy = like.rms_jy if like is not None else hips.typical_rms_jy(rms)
    # Under a hidden name until it is whole.
    one = Hips(folder / f".{name}.{uuid4().hex[:8]}", order, rms_jy, image.frequency_hz)
    for number in hips.cells_of(image, order):
        one.put(order, number, hips.draw(order, number, image, rms))
    one.raise_to_the_top(one.numbers(order))
    one.finish(name, name)
    one.folder.rename(folder / name)
    return replace(one, folder=folder / name)


def _draw_whole(folder: Path, names: list[str], touched: set[int]) -> None:
    parts = [one for name in names if (one := Hips.open(folder / name)) is not None]
    whole = Hips.open(folder / ALL_SKY) or replace(parts[0], folder=folder / ALL_SKY)
    for number in sorted(touched):
        cells = [cell for one in parts if (cell := one.get(whole.order, number)) is not None]
        whole.put(whole.order, number, hips.combine(cells))
    whole.raise_to_the_top(touched)
    whole.finish(ALL_SKY, "DSA-110 continuum")
    hips.replace(whole.folder / _LIST, json.dumps(names, indent=0).encode())
