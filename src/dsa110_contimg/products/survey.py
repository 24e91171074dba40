"""The sky of all published mosaics: a HiPS of each, and one of all together that grows with them.

A cell of the whole is made anew from every mosaic that reaches it and swapped in. The book says
which cells each mosaic in it reaches, and before any is changed, which are going to be. So whatever
was cut short is done again, with the same result, and a mosaic is never in it twice. An update
costs what its own cells cost, however large the survey is.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from dsa110_contimg.durable import remove_whole, whole
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.layout import ALL_SKY
from dsa110_contimg.products import hips
from dsa110_contimg.products.hips import Hips
from dsa110_contimg.products.publish import Published

_SPAN_CARDS = ("MJD-BEG", "MJD-END")
_BOOK = "mosaics.json"


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


@dataclass(frozen=True)
class _Book:
    """What is in the whole.

    Attributes
    ----------
    cells : dict
        Cells of the finest order that each mosaic reaches.
    sha256 : dict
        Checksum of each mosaic.
    unfinished : tuple of int
        Cells that an update began to change.
    """

    cells: dict[str, list[int]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    unfinished: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "_Book":
        try:
            content = json.loads((folder / ALL_SKY / _BOOK).read_text())
        except FileNotFoundError:
            return cls()
        return cls(content["cells"], content["sha256"], tuple(content["unfinished"]))

    def write(self, folder: Path) -> None:
        content = {"cells": self.cells, "sha256": self.sha256, "unfinished": self.unfinished}
        (folder / ALL_SKY).mkdir(exist_ok=True)
        hips.replace(folder / ALL_SKY / _BOOK, json.dumps(content, sort_keys=True).encode())

    def names(self, wanted: Collection[int]) -> dict[int, list[str]]:
        """Mosaics that reach each of some cells, in order of name."""
        found: dict[int, list[str]] = {number: [] for number in wanted}
        for name in sorted(self.cells):
            for number in found.keys() & set(self.cells[name]):
                found[number].append(name)
        return found


def is_current(folder: Path, published: Mapping[str, Published]) -> bool:
    """True if the whole shows these mosaics and no others."""
    book = _Book.read(folder)
    return book.sha256 == _checksums(published) and not book.unfinished


def bring_up_to_date(folder: Path, published: Mapping[str, Published]) -> Survey:
    """Draw what is new and take away what is published no more.

    Parameters
    ----------
    folder : Path
        Of all HiPS.
    published : mapping of str to Published
        Every published mosaic by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if is_current(folder, published):
            return Survey(folder)
        before, wanted = _Book.read(folder), _checksums(published)
        same = {name for name in wanted if before.sha256.get(name) == wanted[name]}
        added, removed = sorted(wanted.keys() - same), sorted(before.cells.keys() - same)
        _sweep(folder, wanted)
        like = Hips.open(folder / ALL_SKY)
        cells = {name: before.cells[name] for name in same}
        for name in added:
            one = _draw_mosaic(folder, name, published[name], like)
            like = like or replace(one, folder=folder / ALL_SKY, sha256="")
            cells[name] = one.numbers(one.order)
        touched = set(before.unfinished)
        touched.update(*(cells[name] for name in added), *(before.cells[name] for name in removed))
        if like is not None:
            replace(before, unfinished=tuple(sorted(touched))).write(folder)
            _draw_whole(folder, like, _Book(cells), touched)
            _Book(cells, wanted).write(folder)
    return Survey(folder, tuple(added), tuple(removed), len(touched))


def _checksums(published: Mapping[str, Published]) -> dict[str, str]:
    return {name: one.sha256 for name, one in published.items()}


def _sweep(folder: Path, wanted: Mapping[str, str]) -> None:
    """Remove what was left by something that was killed, and HiPS of what is published no more.

    Only the lock's holder writes here.
    """
    hidden = [*folder.glob(".*.*"), *(folder / ALL_SKY).rglob(".*.*")]
    for path in hidden:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and path.name != ALL_SKY:
            one = Hips.open(path)
            if one is None or one.sha256 != wanted.get(path.name):
                remove_whole(path)


def _draw_mosaic(folder: Path, name: str, published: Published, like: Hips | None) -> Hips:
    """The HiPS of one mosaic, with the pixels and the stretch of another one."""
    finished = Hips.open(folder / name)
    if finished is not None:
        if like is None or (finished.order, finished.rms_jy) == (like.order, like.rms_jy):
            return finished
        remove_whole(finished.folder)
    path = published.path
    image = read_fits(path)
    rms = read_fits(path.with_name(f"{path.stem}_rms.fits")).pixels
    order = like.order if like is not None else hips.order_for(image.cell_rad)
    rms_jy = like.rms_jy if like is not None else hips.typical_rms_jy(rms)
    # Under a hidden name until it is whole.
    with whole(folder / name) as part:
        span = [float(str(image.header[key])) for key in _SPAN_CARDS if key in image.header]
        one = Hips(
            part,
            order,
            rms_jy,
            image.frequency_hz,
            published.sha256,
            (span[0], span[1]) if len(span) == 2 else None,
        )
        for number in hips.cells_of(image, order):
            one.put(order, number, hips.draw(order, number, image, rms))
        one.raise_to_the_top(one.numbers(order))
        one.finish(name, name)
    return replace(one, folder=folder / name)


def _draw_whole(folder: Path, whole: Hips, book: _Book, touched: Collection[int]) -> None:
    parts: dict[str, Hips] = {}
    for number, names in sorted(book.names(touched).items()):
        for name in names:
            if name not in parts and (one := Hips.open(folder / name)) is not None:
                parts[name] = one
        found = [parts[name].get(whole.order, number) for name in names if name in parts]
        cells = [cell for cell in found if cell is not None]
        whole.put(whole.order, number, hips.combine(cells))
    whole.raise_to_the_top(touched)
    spans = [one.span_mjd for name in book.cells if (one := Hips.open(folder / name)) is not None]
    known = np.array([span for span in spans if span is not None])
    if known.size:
        whole = replace(whole, span_mjd=(float(known[:, 0].min()), float(known[:, 1].max())))
    whole.finish(ALL_SKY, "DSA-110 continuum", touched)
