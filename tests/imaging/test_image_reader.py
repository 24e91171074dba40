"""Images of other programs: coordinates, units, frequencies, beams and damage.

Coordinates are compared with astropy's own answer for the header that was written.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord
from casacore import images
from hypothesis import strategies as st

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging import header_cards
from dsa110_contimg.imaging.fits_image import Image, write_casa_image, write_fits
from dsa110_contimg.imaging.image_reader import (
    beam_of,
    frequency_of,
    read_companion,
    read_fits,
    read_image,
)
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.sky_image import ForeignImage, beam_on_pixels, scales_rad
from dsa110_contimg.operations.compare import compare
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.astrometry import Site
from dsa110_contimg.sources.finding import find_sources
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.telescope import DSA110
from fuzzing import thorough

BEAM = RestoringBeam(40 * ARCSEC_RAD, 25 * ARCSEC_RAD, 0.5)


def _own(projection: str = "SIN", dec: float = 0.3) -> Image:
    rng = np.random.default_rng(1)
    pixels = rng.normal(scale=1e-3, size=(60, 80)).astype(np.float32)
    return Image(
        pixels, (1.0, dec), (40.0, 30.0), 10 * ARCSEC_RAD, projection, BEAM, "Jy/beam", 1.4e9
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_fits(tmp_path / "a.fits", _own())
    return tmp_path / "a.fits"


def _edit(path: Path, change: Callable[[fits.Header], None]) -> None:
    with fits.open(path, mode="update", output_verify="ignore") as hdus:
        change(hdus[0].header)


def _as_four_axes(path: Path) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = hdus[0].data[None, None]
        header = hdus[0].header
        del header["RESTFRQ"]
        header["CTYPE3"], header["CRVAL3"], header["CDELT3"] = "FREQ", 1.4e9, 2e8
        header["CRPIX3"], header["CTYPE4"], header["CRVAL4"] = 1, "STOKES", 1
        header["CRPIX4"], header["CDELT4"] = 1, 1


def test_our_own_images_are_read_as_what_they_are(path: Path) -> None:
    own, read = _own(), read_fits(path)
    assert isinstance(read_image(path), Image)
    assert np.array_equal(read.pixels, own.pixels)
    assert read.projection == "SIN"
    assert read.cell_rad == pytest.approx(own.cell_rad, rel=1e-12)


@pytest.mark.accepts(
    "Images",
    "Frequency in RESTFRQ, RESTFREQ or an axis in any unit (WSClean, ASKAP, CASA)",
    "used; without one, refused where flux densities of a catalogue must be scaled",
)
def test_frequency_of_a_spectral_axis(path: Path) -> None:
    _as_four_axes(path)
    assert read_image(path).frequency_hz == 1.4e9
    _edit(path, lambda h: h.update(CUNIT3="MHz", CRVAL3=1400.0, CDELT3=200.0))
    assert read_image(path).frequency_hz == pytest.approx(1.4e9)
    # Where a line was observed elsewhere than at rest, the axis is what was observed.
    _edit(path, lambda h: h.update(RESTFREQ=1.42e9))
    assert read_image(path).frequency_hz == pytest.approx(1.4e9)
    _edit(path, lambda h: h.update(CTYPE3="VOPT", CUNIT3="m/s"))
    assert read_image(path).frequency_hz == 1.42e9
    _edit(path, lambda h: h.update(RESTFREQ=1420.0))
    with pytest.raises(BadInputError, match=r"its RESTFREQ is 1420 Hz: correct the card"):
        read_image(path)
    _edit(path, lambda h: h.remove("RESTFREQ"))
    with pytest.raises(BadInputError, match=r"a\.fits: states no frequency.*RESTFRQ"):
        frequency_of(path, read_image(path))


@pytest.mark.accepts(
    "Images", "Jy, mJy or uJy per beam in any spelling; MJy/sr", "turned to Jy/beam"
)
@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("mJy/beam", 1e-3),
        ("uJy/beam", 1e-6),
        ("JY/BEAM", 1.0),
        ("beam-1 Jy", 1.0),
        ("Jy beam-1", 1.0),
        ("MJy/sr", 1e6 * BEAM.solid_angle_sr),
    ],
)
def test_brightness_is_in_jansky_per_beam(unit: str, factor: float, path: Path) -> None:
    _edit(path, lambda h: h.update(BUNIT=unit))
    read = read_image(path)
    assert read.unit == "Jy/beam"
    assert np.allclose(read.pixels, factor * _own().pixels, rtol=1e-6)


@pytest.mark.accepts(
    "Images",
    "Kelvin; a beam of zero or in arcsec; solar or no coordinates",
    "refused with the card",
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BUNIT": "K"}, "its BUNIT is K; images in Jy per beam"),
        ({"BUNIT": "MJY/BEAM"}, "may be mJy or MJy"),
        ({"BMAJ": 0.0}, "its beam is 0 x"),
        ({"BMAJ": 45.0}, "is it in arcsec"),
        ({"BMIN": None}, "BMAJ without BMIN"),
        ({"BMAJ": "wide"}, "its BMAJ is no number"),
        ({"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"}, "none of the sky's|cannot be understood"),
        ({"CTYPE1": "X", "CTYPE2": "Y"}, "has no celestial coordinates"),
        ({"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"}, "coordinates cannot be understood"),
        ({"CDELT1": 0.0}, "coordinates cannot be understood"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_card(
    change: dict[str, object], said: str, path: Path
) -> None:
    def apply(header: fits.Header) -> None:
        for key, value in change.items():
            if value is None:
                del header[key]
            else:
                header[key] = value

    _edit(path, apply)
    with pytest.raises(BadInputError, match=said) as refused:
        read_image(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def _replace_card(path: Path, key: str, card: bytes) -> None:
    content = path.read_bytes()
    at = next(i for i in range(0, len(content), 80) if content[i : i + 8].strip() == key.encode())
    path.write_bytes(content[:at] + card.ljust(80) + content[at + 80 :])


@pytest.mark.accepts("Images", "A file that was cut off; a beam that is NaN", "refused")
def test_damage_is_told_in_one_line(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    for length in (100, 2880, 4000, len(whole) - 5000):
        (tmp_path / "cut.fits").write_bytes(whole[:length])
        with pytest.raises(BadInputError, match=r"cut\.fits: ") as refused:
            read_image(tmp_path / "cut.fits")
        assert "\n" not in str(refused.value)
    _replace_card(path, "BMAJ", b"BMAJ    = nan")
    with pytest.raises(BadInputError, match=r"a\.fits: its BMAJ is nan: correct the card"):
        read_image(path)
    with pytest.raises(BadInputError, match="no CASA image"):
        read_image(tmp_path)


@pytest.mark.accepts(
    "Images", "Cards that break the standard (CASA 4.7)", "left out, the image is read"
)
def test_cards_that_cannot_be_read_are_left_out(path: Path, tmp_path: Path) -> None:
    _edit(path, lambda h: h.update(ORIGIN="CASA 4.7"))
    _replace_card(path, "ORIGIN", b"ORIGIN  = 'CASA\n4.7'")
    read = read_image(path)
    assert "ORIGIN" not in read.header
    write_fits(tmp_path / "again.fits", read)
    assert np.array_equal(read_image(tmp_path / "again.fits").pixels, read.pixels)


@pytest.mark.accepts(
    "Images",
    "The beam in the history (AIPS, the VLA archive)",
    "used; without any, refused where a beam is needed",
)
def test_beams_of_aips_are_in_the_history(path: Path) -> None:
    def change(header: fits.Header) -> None:
        for key in ("BMAJ", "BMIN", "BPA"):
            del header[key]
        header["HISTORY"] = "AIPS   CLEAN BMAJ=  9.0000E-03 BMIN=  9.0000E-03 BPA=   0.00"
        header["HISTORY"] = "AIPS   CLEAN BMAJ=  1.2500E-02 BMIN=  1.0000E-02 BPA=  10.00"

    _edit(path, change)
    beam = beam_of(path, read_image(path))
    assert np.rad2deg(beam.major_rad) == pytest.approx(0.0125)
    assert np.rad2deg(beam.minor_rad) == pytest.approx(0.01)
    assert np.rad2deg(beam.position_angle_rad) == pytest.approx(10)
    _edit(path, lambda h: h.remove("HISTORY", remove_all=True))
    with pytest.raises(BadInputError, match="has no beam: write BMAJ"):
        beam_of(path, read_image(path))


@pytest.mark.accepts(
    "Images", "Several Stokes parameters; several frequencies", "I is taken; refused"
)
def test_cubes_are_refused_and_total_intensity_is_taken(path: Path, tmp_path: Path) -> None:
    header, data = fits.getheader(path), fits.getdata(path)
    header["CTYPE3"], header["CRVAL3"], header["CRPIX3"], header["CDELT3"] = "STOKES", 2, 1, -1
    fits.writeto(tmp_path / "s.fits", np.stack([data + 1, data]), header)
    assert np.array_equal(read_image(tmp_path / "s.fits").pixels, data)
    header["CTYPE3"], header["CRVAL3"], header["CDELT3"] = "FREQ", 1.4e9, 1e6
    fits.writeto(tmp_path / "c.fits", np.stack([data, data]), header)
    with pytest.raises(BadInputError, match=r"c\.fits: holds 2 planes along FREQ; extract one"):
        read_image(tmp_path / "c.fits")


@pytest.mark.accepts("Images", "CASA image directories", "read")
def test_casa_images_are_read(path: Path, tmp_path: Path) -> None:
    write_casa_image(tmp_path / "a.image", path)
    read, own = read_image(tmp_path / "a.image"), _own()
    assert np.allclose(read.pixels, own.pixels)
    x, y = np.array([3.0, 70.0]), np.array([50.0, 2.0])
    assert np.allclose(read.sky(x, y), own.sky(x, y), atol=1e-7)
    assert read.beam is not None
    assert read.beam.major_rad == pytest.approx(BEAM.major_rad, rel=1e-5)


@pytest.mark.accepts(
    "Images", "Images at a celestial pole", "written with LONPOLE, so that every reader agrees"
)
@pytest.mark.parametrize("dec", [np.pi / 2, -np.pi / 2, 1.5, 0.3])
def test_north_is_up_at_the_pole_too(dec: float, tmp_path: Path) -> None:
    image = _own(dec=dec)
    write_fits(tmp_path / "p.fits", image)
    # In the convention of interferometers u and v point to larger right ascension and declination
    # along the axes of `tangent_axes`, whatever the place.
    east, north, centre = astrometry.tangent_axes(1.0, dec)
    step = 100.0 * image.cell_rad
    for x, y, axis in ((40.0 - 100, 30.0, east), (40.0, 30.0 + 100, north)):
        vector = centre * np.sqrt(1 - step**2) + axis * step
        ra, dec_there = astrometry.vector_to_radec(vector)
        # By the standard's own reading of the file.
        seen = pixel_to_skycoord(x, y, WCS(fits.getheader(tmp_path / "p.fits"), naxis=2))
        truth = astrometry.radec_to_vector(float(ra), float(dec_there))
        there = astrometry.radec_to_vector(seen.ra.rad, seen.dec.rad)
        assert astrometry.separation_rad(truth, there) < 1e-3 * ARCSEC_RAD
    assert read_fits(tmp_path / "p.fits").centre_rad[1] == pytest.approx(dec)


def test_companions_have_the_shape_of_their_image(path: Path, tmp_path: Path) -> None:
    image = read_image(path)
    assert read_companion(path, image).shape == image.pixels.shape
    fits.writeto(tmp_path / "b.fits", np.ones((5, 60), np.float32), fits.getheader(path))
    with pytest.raises(BadInputError, match=r"b\.fits: has 60 x 5 pixels, its image 80 x 60"):
        read_companion(tmp_path / "b.fits", image)


_PROJECTIONS = ("SIN", "TAN", "ARC", "ZEA", "STG", "CAR", "CEA", "SFL", "AIT", "MOL", "NCP", "GLS")
_FRAMES = {
    "ICRS": ("RA--", "DEC-", {"RADESYS": "ICRS"}),
    "FK5": ("RA--", "DEC-", {"RADESYS": "FK5", "EQUINOX": 2000.0}),
    "J1975": ("RA--", "DEC-", {"RADESYS": "FK5", "EQUINOX": 1975.0}),
    "FK4": ("RA--", "DEC-", {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    "old": ("RA--", "DEC-", {"EPOCH": 1950.0}),
    "none": ("RA--", "DEC-", {}),
    "galactic": ("GLON", "GLAT", {}),
}


@st.composite
def headers(draw: st.DrawFn) -> fits.Header:
    """Celestial headers that a program of this field may write."""
    projection = draw(st.sampled_from(_PROJECTIONS))
    longitude, latitude, cards = _FRAMES[draw(st.sampled_from(sorted(_FRAMES)))]
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"{longitude}-{projection}", f"{latitude}-{projection}"
    cylinder = projection in ("CAR", "CEA", "SFL", "AIT", "MOL", "GLS")
    # Beyond the reach of the projection an image shows nothing; NCP has none at the equator.
    lowest = 30.0 if projection == "NCP" else -70.0
    header["CRVAL1"] = draw(st.floats(0, 360))
    header["CRVAL2"] = 0.0 if cylinder else draw(st.floats(lowest, 80.0))
    header["CRPIX1"], header["CRPIX2"] = draw(st.floats(-50, 100)), draw(st.floats(-50, 100))
    cell = draw(st.floats(0.0005, 0.01))
    east = cell * draw(st.sampled_from([-1.0, 1.0, -1.001, -2.0]))
    rotation = draw(st.sampled_from([0.0, 30.0, 90.0, 180.0, -12.5]))
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    form = draw(st.sampled_from(["plain", "CROTA", "PC", "CD"]))
    if form == "CD":
        header["CD1_1"], header["CD1_2"] = east * cos, -cell * sin
        header["CD2_1"], header["CD2_2"] = east * sin, cell * cos
    else:
        header["CDELT1"], header["CDELT2"] = east, cell
        if form == "CROTA":
            header["CROTA2"] = rotation
        if form == "PC":
            header["PC1_1"], header["PC1_2"] = cos, -sin
            header["PC2_1"], header["PC2_2"] = sin, cos
    if projection == "SIN" and draw(st.booleans()):
        header["PV2_1"], header["PV2_2"] = 0.01, -0.02
    if not cylinder and projection != "NCP" and draw(st.booleans()):
        header["LONPOLE"] = draw(st.sampled_from([180.0, 150.0, 0.0]))
    for key, value in cards.items():
        header[key] = value
    return header


@pytest.mark.accepts(
    "Images",
    "Any celestial projection, frame, rotation or mirroring; two to four axes in any order; in an "
    "extension, compressed",
    "read with the coordinates of the file",
)
@thorough
@hypothesis.given(
    header=headers(),
    axes=st.permutations(["RA", "DEC", "FREQ", "STOKES"]),
    n_axes=st.integers(2, 4),
    unit=st.sampled_from([("Jy/beam", 1.0), ("mJy/beam", 1e-3), ("JY/BEAM", 1.0)]),
    kind=st.sampled_from(["float32", "float64", "int16"]),
    place=st.sampled_from(["primary", "extension", "compressed"]),
    number=st.integers(0, 2**32 - 1),
)
def test_fuzzed_images_are_where_astropy_says(
    tmp_path: Path,
    header: fits.Header,
    axes: list[str],
    n_axes: int,
    unit: tuple[str, float],
    kind: str,
    place: str,
    number: int,
) -> None:
    data = (100 * np.random.default_rng(number).normal(size=(40, 50))).astype(kind)
    path = tmp_path / "x.fits"
    path.unlink(missing_ok=True)
    order = [axis for axis in axes if axis in ["RA", "DEC", "FREQ", "STOKES"][:n_axes]]
    _write(path, header, data, order, unit[0], place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = WCS(header)
        x, y = np.meshgrid([0.0, 24.5, 49.0], [0.0, 19.5, 39.0])
        x, y = x.ravel(), y.ravel()
        seen = pixel_to_skycoord(x, y, truth).icrs
    read = read_image(path)
    assert np.allclose(read.pixels, unit[1] * data, rtol=1e-6)
    assert read.frequency_hz == (1.4e9 if "FREQ" in order else None)
    shown = np.isfinite(seen.ra.deg)
    ra_deg, dec_deg = read.sky(x, y)
    assert np.array_equal(np.isfinite(ra_deg), shown)
    away = np.hypot(
        np.cos(seen.dec.rad) * np.angle(np.exp(1j * (np.deg2rad(ra_deg) - seen.ra.rad))),
        np.deg2rad(dec_deg) - seen.dec.rad,
    )
    assert np.nanmax(away, initial=0.0) < 1e-3 * ARCSEC_RAD
    if shown.all():
        again = read.pixel(ra_deg, dec_deg)
        assert np.abs(np.stack(again) - [x, y]).max() < 1e-3


def _write(
    path: Path, header: fits.Header, data: np.ndarray, order: list[str], unit: str, place: str
) -> None:
    """Write a header of two axes and its data with the axes in any order."""
    new = fits.Header()
    for key, value in header.items():
        if key[-1] not in "12" and "_" not in key:
            new[key] = value
    where = {"RA": order.index("RA") + 1, "DEC": order.index("DEC") + 1}
    numbers = {"1": where["RA"], "2": where["DEC"]}
    for key, value in header.items():
        if "_" in key:
            stem, i, j = key[:2], key[2], key[4]
            # Parameters of a projection are numbered, matrices have two axes.
            second = j if stem == "PV" else numbers[j]
            new[f"{stem}{numbers[i]}_{second}"] = value
        elif key[-1] in "12":
            new[f"{key[:-1]}{numbers[key[-1]]}"] = value
    matrix = any(key.startswith("CD1_") for key in header)
    for axis, value in (("FREQ", 1.4e9), ("STOKES", 1.0)):
        if axis in order:
            n = order.index(axis) + 1
            new[f"CTYPE{n}"], new[f"CRVAL{n}"], new[f"CRPIX{n}"] = axis, value, 1.0
            if matrix:
                new[f"CD{n}_{n}"] = 1.0
            else:
                new[f"CDELT{n}"] = 1.0
    new["BUNIT"] = unit
    cube = data.T[(..., *[None] * (len(order) - 2))]
    # Axes of the array are those of the header from the last to the first.
    present = [axis for axis in ("RA", "DEC", "FREQ", "STOKES") if axis in order]
    cube = np.transpose(cube, [present.index(axis) for axis in order])
    hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
    if place == "primary":
        hdu = fits.PrimaryHDU(cube.T, new)
        hdu.writeto(path)
        return
    if place == "compressed":
        pixels = np.ascontiguousarray(cube.T)
        hdu = fits.CompImageHDU(pixels, new, compression_type="GZIP_1", quantize_level=0)
    else:
        hdu = fits.ImageHDU(cube.T, new)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def _with_points(header: fits.Header, size: int, places: np.ndarray) -> ForeignImage:
    """Sources of 1 Jy whose beam is 40 by 25 arcsec on the sky at an angle, on any pixels."""
    header["BMAJ"], header["BMIN"] = (np.rad2deg(v) for v in (BEAM.major_rad, BEAM.minor_rad))
    header["BPA"], header["RESTFRQ"] = np.rad2deg(BEAM.position_angle_rad), 1.4e9
    image = ForeignImage(
        np.zeros((size, size), np.float32),
        WCS(header).celestial,
        pixel_to_skycoord(0, 0, WCS(header)).frame.replicate_without_data(),
        BEAM,
        "Jy/beam",
        1.4e9,
    )
    y, x = np.indices((size, size)).astype(float)
    form = BEAM.quadratic_form(1.0)
    for column, row in places:
        scale = scales_rad(image, np.array([column]), np.array([row]))[0]
        east, north = np.tensordot(scale, np.stack([x - column, y - row]), axes=1)
        west = -east
        squares = form[0, 0] * west**2 + 2 * form[0, 1] * west * north + form[1, 1] * north**2
        image.pixels[...] += np.exp(-squares).astype(np.float32)
    noise = np.random.default_rng(3).normal(scale=1e-3, size=(size, size))
    image.pixels[...] += noise.astype(np.float32)
    return image


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"CROTA2": 30.0},
        {"CDELT1": 0.002},
        {"CTYPE1": "GLON-SIN", "CTYPE2": "GLAT-SIN"},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"CDELT1": -0.003},
    ],
)
def test_sources_are_found_and_measured_on_any_pixels(change: dict[str, object]) -> None:
    header = fits.Header(
        {
            "CTYPE1": "RA---SIN",
            "CTYPE2": "DEC--SIN",
            "CRVAL1": 120.0,
            "CRVAL2": 30.0,
            "CRPIX1": 100.0,
            "CRPIX2": 100.0,
            "CDELT1": -0.002,
            "CDELT2": 0.002,
        }
    )
    header.update(change)
    places = np.array([[60.3, 70.8], [140.6, 120.2], [90.1, 150.5]])
    image = _with_points(header, 200, places)
    truth = image.sky(*places.T)
    found = find_sources(Path("x.fits"), image, 6.0)
    assert len(found) == 3
    order = [int(np.argmin(np.abs(found.dec_deg - dec))) for dec in truth[1]]
    east = (found.ra_deg[order] - truth[0]) * np.cos(np.deg2rad(truth[1]))
    assert np.abs(3600 * east).max() < 0.2
    assert np.abs(3600 * (found.dec_deg[order] - truth[1])).max() < 0.2
    assert found.peak_jy == pytest.approx(1.0, rel=0.01)
    assert found.flux_jy == pytest.approx(1.0, rel=0.02)
    # A position that is given wrongly is seen to be so, in the right direction.
    measured = measure_at(image, np.full(image.pixels.shape, 1e-3), truth[0], truth[1] - 4 / 3600)
    assert np.rad2deg(measured.offset_north_rad) * 3600 == pytest.approx(4.0, abs=0.2)
    assert np.rad2deg(measured.offset_east_rad) * 3600 == pytest.approx(0.0, abs=0.2)


def test_a_beam_on_rotated_pixels_turns_with_them() -> None:
    header = fits.Header(
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 10.0, "CRVAL2": 20.0}
        | {"CRPIX1": 1.0, "CRPIX2": 1.0, "CDELT1": -0.002, "CDELT2": 0.002, "CROTA2": 30.0}
    )
    image = _with_points(header, 20, np.zeros((0, 2)))
    scale = scales_rad(image, np.zeros(1), np.zeros(1))[0]
    turned = beam_on_pixels(image, BEAM, scale)
    assert turned.major_rad == pytest.approx(BEAM.major_rad, rel=1e-6)
    assert turned.minor_rad == pytest.approx(BEAM.minor_rad, rel=1e-6)
    angle = np.rad2deg(turned.position_angle_rad - BEAM.position_angle_rad) % 180
    assert angle == pytest.approx(30, abs=0.01)


def test_sources_at_a_pole_are_found(tmp_path: Path) -> None:
    header = fits.Header(
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 10.0, "CRVAL2": 90.0}
        | {"CRPIX1": 101.0, "CRPIX2": 101.0, "CDELT1": -0.002, "CDELT2": 0.002}
    )
    places = np.array([[60.3, 70.8], [140.6, 120.2]])
    image = _with_points(header, 200, places)
    assert np.rad2deg(image.cell_rad) == pytest.approx(0.002, rel=1e-4)
    found = find_sources(Path("x.fits"), image, 6.0)
    x, y = image.pixel(found.ra_deg, found.dec_deg)
    assert np.sort(x) == pytest.approx([60.3, 140.6], abs=0.05)
    assert np.sort(y) == pytest.approx([70.8, 120.2], abs=0.05)


def test_angles_of_beams_are_from_the_north_of_icrs(path: Path) -> None:
    _edit(path, lambda h: h.update(CTYPE1="GLON-SIN", CTYPE2="GLAT-SIN", CRVAL1=30.0, CRVAL2=40.0))
    with fits.open(path) as hdus:
        wcs = WCS(hdus[0].header, naxis=2)
    ny, nx = _own().pixels.shape
    lon, lat = wcs.all_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0]
    middle = SkyCoord(lon, lat, unit="deg", frame="galactic")
    end = middle.directional_offset_by(BEAM.position_angle_rad * units.rad, 1 * units.arcsec)
    beam = beam_of(path, read_image(path))
    expected = middle.icrs.position_angle(end.icrs).rad % np.pi
    assert beam.position_angle_rad == pytest.approx(expected, abs=1e-6)


def test_noise_maps_have_the_unit_of_their_image(path: Path, tmp_path: Path) -> None:
    _edit(path, lambda h: h.update(BUNIT="MJy/sr"))
    image = read_image(path)
    fits.writeto(tmp_path / "rms.fits", fits.getdata(path), fits.getheader(path))
    _edit(tmp_path / "rms.fits", lambda h: [h.remove(key) for key in ("BMAJ", "BMIN", "BPA")])
    assert np.allclose(read_companion(tmp_path / "rms.fits", image), image.pixels, rtol=1e-6)


def test_images_on_different_pixels_are_compared_on_the_sky(tmp_path: Path) -> None:
    header = fits.Header(
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 120.0, "CRVAL2": 30.0}
        | {"CRPIX1": 100.0, "CRPIX2": 100.0, "CDELT1": -0.002, "CDELT2": 0.002}
        | {"RADESYS": "FK5", "EQUINOX": 2000.0}
    )
    places = np.array([[60.3, 70.8], [140.6, 120.2]])
    first = _with_points(header, 200, places)
    sky = first.sky(*places.T)
    turned = header.copy()
    turned["CROTA2"] = 20.0
    empty = _with_points(turned, 200, np.zeros((0, 2)))
    second = _with_points(turned, 200, np.stack(empty.pixel(*sky), axis=1))
    write_fits(tmp_path / "a.fits", first)
    write_fits(tmp_path / "b.fits", second)
    found = compare(tmp_path / "a.fits", tmp_path / "b.fits", tmp_path / "d.fits")
    assert found.n_sources == 2
    assert found.flux_ratio == pytest.approx(1.0, abs=0.005)
    assert abs(found.east_arcsec) < 0.1
    assert abs(found.north_arcsec) < 0.1
    assert found.largest_difference_jy < 0.03
    # The difference has the axes of the first, and no more.
    assert fits.getdata(tmp_path / "d.fits").shape == (200, 200)


def _cards_of_a_tile() -> dict[str, object]:
    begin = Time("2026-01-25T22:00:00.5")
    return (
        header_cards.origin(DSA110.common_name)
        | header_cards.times(begin, begin + 309.25 * units.s)
        | header_cards.place_and_band(Site.of(DSA110), 187.5e6)
    )


@pytest.fixture
def product(tmp_path: Path) -> fits.Header:
    write_fits(tmp_path / "tile.fits", replace(_own(), header=_cards_of_a_tile()))
    return fits.getheader(tmp_path / "tile.fits")


def test_the_standard_cards_say_when_and_where(product: fits.Header, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(product)
    assert wcs.celestial.naxis == 2
    assert wcs.naxis == 4
    # As wcslib reads them.
    assert wcs.wcs.dateavg == "2026-01-25T22:02:35.125"
    assert wcs.wcs.mjdobs == pytest.approx(Time("2026-01-25T22:00:00.5").mjd, abs=1e-9)
    assert wcs.wcs.telapse == pytest.approx(309.25)
    assert wcs.wcs.specsys == "TOPOCENT"
    assert wcs.wcs.radesys == "ICRS"
    assert wcs.wcs.lonpole == 180
    site = EarthLocation.from_geodetic(-118.2830001, 37.2334051, 1188.05)
    assert wcs.wcs.obsgeo[:3] == pytest.approx([v.to_value("m") for v in site.geocentric], abs=0.1)
    # As casacore does.
    seen = images.image(str(tmp_path / "tile.fits"))
    assert seen.shape() == [1, 1, 60, 80]
    spectral = seen.coordinates()["spectral"]
    assert spectral.get_referencevalue() == pytest.approx(1.4e9)
    assert spectral.get_increment() == pytest.approx(187.5e6)
    assert seen.coordinates()["stokes"].get_stokes() == ["I"]


def test_rules_of_other_pipelines_hold(product: fits.Header) -> None:
    """What vast-pipeline (image/main.py) and TraP (accessors/fitsimage.py) ask of a header."""
    # Both: an axis of frequency, and its step for the bandwidth.
    assert product["CTYPE3"] == "FREQ"
    assert (product["CRVAL3"], product["CDELT3"]) == (1.4e9, 187.5e6)
    # vast-pipeline: Timestamp(DATE-OBS, tz=TIMESYS), STOKES, DURATION, beam in degrees.
    assert (product["TIMESYS"], product["STOKES"], product["DURATION"]) == ("UTC", "I", 309.25)
    assert product["BMAJ"] == pytest.approx(np.rad2deg(BEAM.major_rad))
    ra, dec = WCS(product, naxis=2).wcs_pix2world([[40.5, 30.5]], 1)[0]
    assert abs(ra - np.rad2deg(1.0)) < 0.01
    assert abs(dec - np.rad2deg(0.3)) < 0.01
    # TraP: begin and end of the observation, no rotation card needed, two axes of data.
    begin, end = (datetime.fromisoformat(product[key]) for key in ("DATE-OBS", "END_UTC"))
    assert (end - begin).total_seconds() == pytest.approx(309.25)
    assert product["NAXIS"] == 2
    assert product["TELESCOP"] == "DSA-110"
