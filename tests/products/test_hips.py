"""HiPS cells show the mosaics' sky where viewers look for it, each mosaic once."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from mocpy import MOC
from reproject import reproject_interp
from reproject.hips import reproject_to_hips
from scipy import ndimage

from dsa110_contimg import layout
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.mosaicking import grid
from dsa110_contimg.products import hips, survey
from dsa110_contimg.products.hips_properties import read_properties
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.products.survey import Published
from dsa110_contimg.sky import astrometry, projections
from skies import BEAM, CELL, NPIX, RMS, Sky, draw

pytestmark = pytest.mark.slow

NOISE = np.full((NPIX, NPIX), RMS, np.float32)


def _image(ra_deg: float, dec_deg: float, seed: int, projection: str = "SIN") -> Image:
    sky = Sky(np.array([ra_deg + 0.1]), np.array([dec_deg - 0.1]), np.array([1.0]))
    image, _ = draw((ra_deg, dec_deg), sky, seed)
    if projection == "SIN":
        return image
    area = grid.MosaicGrid(projection, image.centre_rad, (NPIX / 2, NPIX / 2), (NPIX, NPIX), CELL)
    pixels, _ = grid.resample(area, area.whole, image, np.ones((NPIX, NPIX), np.float32))
    return replace(area.image(pixels), beam=BEAM)


def _publish(folder: Path, name: str, image: Image, rms: float = RMS) -> Published:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.fits"
    write_fits(path, replace(image, frequency_hz=1.4e9))
    write_fits(path.with_name(f"{name}_rms.fits"), replace(image, pixels=NOISE / RMS * rms))
    return Published(path, sha256(path))


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): _undated(path.read_bytes()) for path in files}


def _undated(content: bytes) -> bytes:
    """Properties without the dates of their making."""
    return re.sub(rb"(hips_(?:creation|release)_date +=).*", rb"\1", content)


def test_the_finest_pixels_are_no_larger_than_the_mosaics() -> None:
    order = hips.order_for(CELL)
    pixel_deg = 58.6323 / 2 ** (order + 9)
    assert pixel_deg <= np.rad2deg(CELL) < 2.01 * pixel_deg


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg", "projection"),
    [(0.02, 16.2, "TAN"), (123.0, -20.0, "CEA"), (250.0, 54.6, "TAN")],
)
def test_cells_are_those_of_an_independent_program(
    ra_deg: float, dec_deg: float, projection: str, tmp_path: Path
) -> None:
    image = _image(ra_deg, dec_deg, 1, projection)
    order = 5
    cells = hips.cells_of(image, order)
    reproject_to_hips(
        (image.pixels.astype(float), image.wcs),
        coord_system_out="equatorial",
        level=order,
        reproject_function=reproject_interp,
        output_directory=str(tmp_path / "other"),
    )
    theirs = {
        int(path.stem[4:]): path for path in (tmp_path / "other" / f"Norder{order}").rglob("*.fits")
    }
    assert set(cells) <= set(theirs)
    compared = 0
    for cell in cells:
        mine = hips.draw(order, cell, image, NOISE).pixels
        other = fits.getdata(theirs[cell])
        both = ndimage.binary_erosion(np.isfinite(mine) & np.isfinite(other), iterations=4)
        if both.sum() < 1000:
            continue
        compared += 1
        # Bilinear interpolation there, cubic here.
        assert np.corrcoef(mine[both], other[both])[0, 1] > 0.98
        assert np.median(np.abs(mine[both] - other[both])) < 0.3 * RMS
    assert compared >= 1


def test_a_source_is_where_it_is_and_as_bright_in_all_orders(tmp_path: Path) -> None:
    path = _publish(tmp_path / "public", "a", _image(10.0, 20.0, 2))
    survey.bring_up_to_date(tmp_path / "hips", {"a": path})
    made = hips.Hips.open(tmp_path / "hips" / "a")
    assert made is not None
    assert made.frequency_hz == pytest.approx(1.4e9)
    assert made.rms_jy == pytest.approx(RMS)
    cells = {number: made.get(made.order, number) for number in made.numbers(made.order)}
    peaks = {number: float(np.nanmax(cell.pixels)) for number, cell in cells.items()}
    where = max(peaks, key=peaks.__getitem__)
    assert peaks[where] == pytest.approx(1.0, abs=0.05)
    row, column = np.unravel_index(int(np.nanargmax(cells[where].pixels)), (512, 512))
    vector = hips._pixel_vectors(made.order, where).reshape(512, 512, 3)[row, column]
    plane = projections.to_plane("SIN", (np.deg2rad(10.1), np.deg2rad(19.9)), vector[None])
    assert np.abs(plane).max() < CELL
    flux = {
        order: sum(
            float(np.nansum(np.where(cell.pixels > 10 * RMS, cell.pixels, 0)))
            for n in made.numbers(order)
            if (cell := made.get(order, n)) is not None
        )
        for order in (made.order, made.order - 1)
    }
    assert 4 * flux[made.order - 1] == pytest.approx(flux[made.order], rel=0.15)
    assert made.numbers(hips.COARSEST_ORDER)
    assert (made.folder / "Norder3" / "Allsky.png").exists()


def test_the_moc_covers_what_was_observed_and_no_more(tmp_path: Path) -> None:
    image = _image(10.0, 20.0, 2)
    survey.bring_up_to_date(tmp_path / "h", {"a": _publish(tmp_path / "public", "a", image)})
    for name in ("a", layout.ALL_SKY):
        moc = MOC.from_fits(tmp_path / "h" / name / "Moc.fits")
        rng = np.random.default_rng(3)
        y, x = rng.integers(0, NPIX, (2, 3000))
        plane = (
            np.stack([-(x - image.reference_pixel[0]), y - image.reference_pixel[1]], axis=1)
            * image.cell_rad
        )
        vectors = projections.to_sky("SIN", image.centre_rad, plane)
        ra, dec = astrometry.vector_to_radec(vectors)
        inside = moc.contains_skycoords(SkyCoord(ra, dec, unit=units.rad))
        observed = np.isfinite(image.pixels)
        surely = ndimage.binary_erosion(observed, iterations=40, border_value=0)[y, x]
        surely_not = ~ndimage.binary_dilation(observed, iterations=40)[y, x]
        assert inside[surely].all()
        assert not inside[surely_not].any()
        assert surely.sum() > 500


def test_properties_are_those_of_the_standard(tmp_path: Path) -> None:
    """IVOA HiPS 1.0, table of section 4.4.1: what is required, and what is recommended."""
    dates = {"MJD-BEG": 61065.5, "MJD-END": 61065.75}
    image = replace(_image(10.0, 20.0, 2), header=dates)
    later = replace(_image(12.0, 20.0, 2), header={"MJD-BEG": 61066.5, "MJD-END": 61066.75})
    made = {"a": image, "b": later}
    public = {name: _publish(tmp_path / "p", name, one) for name, one in made.items()}
    survey.bring_up_to_date(tmp_path / "h", {"a": public["a"]})
    created = read_properties(tmp_path / "h" / layout.ALL_SKY)["hips_creation_date"]
    survey.bring_up_to_date(tmp_path / "h", public)
    found = read_properties(tmp_path / "h" / "a")
    required = (
        "creator_did obs_title dataproduct_type hips_version hips_release_date hips_status "
        "hips_tile_format hips_order hips_frame"
    )
    recommended = (
        "obs_collection obs_description obs_regime em_min em_max t_min t_max hips_builder "
        "hips_creation_date hips_estsize hips_tile_width hips_pixel_scale hips_initial_ra "
        "hips_initial_dec hips_initial_fov moc_sky_fraction client_category"
    )
    for keyword in (required + " " + recommended).split():
        assert found[keyword], keyword
    datetime.strptime(found["hips_release_date"], "%Y-%m-%dT%H:%MZ")
    centre = SkyCoord(found["hips_initial_ra"], found["hips_initial_dec"], unit="deg")
    assert centre.separation(SkyCoord(10.0, 20.0, unit="deg")).deg < 0.1
    side = np.rad2deg(NPIX * image.cell_rad)
    assert 0.5 * side < float(found["hips_initial_fov"]) < 2 * side
    assert (float(found["t_min"]), float(found["t_max"])) == (61065.5, 61065.75)
    # Vacuum wavelengths of 1498.75 and 1311.25 MHz.
    assert float(found["em_min"]) == pytest.approx(0.200028, rel=1e-5)
    assert float(found["em_max"]) == pytest.approx(0.228631, rel=1e-5)
    whole = read_properties(tmp_path / "h" / layout.ALL_SKY)
    assert (float(whole["t_min"]), float(whole["t_max"])) == (61065.5, 61066.75)
    assert whole["hips_creation_date"] == created


def test_mosaics_are_weighted_by_their_noise_and_drawing_again_changes_nothing(
    tmp_path: Path,
) -> None:
    good = _publish(tmp_path / "public", "good", _blank(1.0), 0.001)
    poor = _publish(tmp_path / "public", "poor", _blank(2.0), 0.002)
    folder = tmp_path / "hips"
    done = survey.bring_up_to_date(folder, {"good": good, "poor": poor})
    assert done.added == ("good", "poor")
    assert _median(folder) == pytest.approx((1.0 * 4 + 2.0) / 5)
    before = _content(folder)
    assert survey.bring_up_to_date(folder, {"good": good, "poor": poor}).n_cells == 0
    assert _content(folder) == before
    one_by_one = tmp_path / "one_by_one"
    survey.bring_up_to_date(one_by_one, {"good": good})
    assert _median(one_by_one) == pytest.approx(1.0)
    survey.bring_up_to_date(one_by_one, {"good": good, "poor": poor})
    assert _content(one_by_one) == before


def test_an_update_that_was_cut_short_leaves_nothing_even_if_the_mosaic_is_held_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _publish(tmp_path / "public", "good", _blank(1.0), 0.001)
    poor = _publish(tmp_path / "public", "poor", _blank(2.0), 0.001)
    folder = tmp_path / "hips"
    survey.bring_up_to_date(folder, {"good": good})
    before = _content(folder)
    for step in ("raise_to_the_top", "finish"):
        finished = getattr(hips.Hips, step)

        def cut_short(self: hips.Hips, *given: object, finished: object = finished) -> None:
            if self.folder.name == layout.ALL_SKY:
                raise KeyboardInterrupt
            finished(self, *given)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(hips.Hips, step, cut_short)
            with pytest.raises(KeyboardInterrupt):
                survey.bring_up_to_date(folder, {"good": good, "poor": poor})
        assert _median(folder) == pytest.approx(1.5)
        assert not survey.is_current(folder, {"good": good})
        survey.bring_up_to_date(folder, {"good": good})
        assert _median(folder) == pytest.approx(1.0)
        assert _content(folder) == before
        survey.bring_up_to_date(folder, {"good": good, "poor": poor})
        survey.bring_up_to_date(folder, {"good": good})
        assert _content(folder) == before


def test_a_mosaic_that_was_made_again_under_its_name_is_drawn_again(tmp_path: Path) -> None:
    folder = tmp_path / "hips"
    survey.bring_up_to_date(folder, {"m": _publish(tmp_path / "a", "m", _blank(1.0))})
    again = _publish(tmp_path / "b", "m", _blank(3.0))
    assert not survey.is_current(folder, {"m": again})
    survey.bring_up_to_date(folder, {"m": again})
    assert _median(folder) == pytest.approx(3.0)
    assert survey.is_current(folder, {"m": again})


def test_an_update_reads_no_more_than_what_reaches_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, folder = tmp_path / "public", tmp_path / "hips"
    mosaics = {f"m{ra}": _publish(public, f"m{ra}", _blank(1.0, ra)) for ra in (10, 40, 70)}
    survey.bring_up_to_date(folder, mosaics)
    mosaics["near"] = _publish(public, "near", _blank(1.0, 10.5))
    read: list[str] = []
    get = hips.Hips.get

    def noted(self: hips.Hips, order: int, number: int) -> hips.Cell | None:
        if order == self.order:
            read.append(self.folder.name)
        return get(self, order, number)

    monkeypatch.setattr(hips.Hips, "get", noted)
    done = survey.bring_up_to_date(folder, mosaics)
    assert "m10" in read
    assert not {"m40", "m70"} & set(read)
    assert read.count(layout.ALL_SKY) <= 6 * done.n_cells


def test_a_mosaic_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    good = _publish(tmp_path / "public", "good", _blank(1.0), 0.001)
    far = _publish(tmp_path / "public", "far", _blank(2.0, 40.0), 0.001)
    folder = tmp_path / "hips"
    survey.bring_up_to_date(folder, {"good": good})
    before = _content(folder)
    survey.bring_up_to_date(folder, {"good": good, "far": far})
    assert _content(folder) != before
    done = survey.bring_up_to_date(folder, {"good": good})
    assert done.removed == ("far",)
    assert _content(folder) == before
    survey.bring_up_to_date(folder, {})
    assert not list((folder / layout.ALL_SKY).rglob("Npix*"))


def _blank(value: float, ra_deg: float = 10.0) -> Image:
    geometry, _ = draw((ra_deg, 20.0), Sky(np.zeros(0), np.zeros(0), np.zeros(0)), 1)
    return replace(geometry, pixels=np.full((NPIX, NPIX), value, np.float32))


def _median(folder: Path) -> float:
    whole = hips.Hips.open(folder / layout.ALL_SKY)
    assert whole is not None
    cells = [whole.get(whole.order, number) for number in whole.numbers(whole.order)]
    return float(np.nanmedian(np.concatenate([cell.pixels.ravel() for cell in cells])))
