"""Mosaics as the stages leave them: combined, validated, registered, published, cross-matched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import CalibratedTiles, ConvertedTiles, ImagedTiles, ManualFlags
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.mosaicking.combined_tile import CombinedTile
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.quality.gates import Gate, Verdict
from dsa110_contimg.sources.source_check import SourceCheck

MAPS = ("weight", "rms", "coverage")


@dataclass(frozen=True)
class MosaicTarget:
    """Name and path of a mosaic to make.

    Attributes
    ----------
    name : str
        Empty: the name that streaming gives.
    path : Path, optional
        FITS file; default: staged under the root.
    """

    name: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class MosaicImage:
    """A mosaic on disk.

    Attributes
    ----------
    name : str
    path : Path
        FITS file; companions are `_weight`, `_rms`, `_coverage` and a `.png`.
    method : str
    tile_ids : tuple of str
        Tiles in it, in order of time.
    left_out : mapping
        Tiles that failed a gate, and why.
    start, end : float
        Unix seconds.
    calibration_set_ids : tuple of str
    median_rms_jy, frequency_hz : float
    beam_major_rad, beam_minor_rad, beam_angle_rad : float
    observed_deg2 : float
    ra_deg, dec_deg : float or None
        Of the reference pixel; records of old versions have none.
    tiles : tuple of CombinedTile
        Where and when each of `tile_ids` was observed; records of old versions have none.
    scales : tuple of TileScale
        Flux scale of each of `tile_ids`; none where it was not to be looked at.
    expected_rms_jy : float or None
        What antennas, time, band and weighting give in place of `median_rms_jy`; None where a tile
        does not say.
    """

    name: str
    path: Path
    method: str
    tile_ids: tuple[str, ...]
    left_out: dict[str, str]
    start: float
    end: float
    calibration_set_ids: tuple[str, ...]
    median_rms_jy: float
    frequency_hz: float
    beam_major_rad: float
    beam_minor_rad: float
    beam_angle_rad: float
    observed_deg2: float
    ra_deg: float | None = None
    dec_deg: float | None = None
    tiles: tuple[CombinedTile, ...] = ()
    scales: tuple[TileScale, ...] = ()
    expected_rms_jy: float | None = None

    def companion(self, kind: str) -> Path:
        """Path of the weight, rms or coverage map."""
        return companion(self.path, kind)

    @property
    def preview(self) -> Path:
        """Path of the picture."""
        return self.path.with_suffix(".png")


def companion(path: Path, kind: str) -> Path:
    """Path of a map that belongs to a mosaic's FITS file."""
    return path.with_name(f"{path.stem}_{kind}.fits")


def mosaic_name(group_id: str, start: float, end: float) -> str:
    """Streaming's name: neither from a clock nor a row number."""
    return f"mosaic_{group_id}_{int((start + end) / 2)}"


@dataclass(frozen=True)
class Validation:
    """Verdict on a mosaic.

    Attributes
    ----------
    verdict : Verdict
    gates : tuple of Gate
    sky_catalog : str
    sources : tuple of SourceCheck
    """

    verdict: Verdict
    gates: tuple[Gate, ...]
    sky_catalog: str
    sources: tuple[SourceCheck, ...]

    def reasons(self) -> str:
        """List the gates that failed, with values and limits."""
        return "; ".join(
            f"{gate.name} {gate.value_text} ({gate.limit}{', ' + gate.note if gate.note else ''})"
            for gate in self.gates
            if gate.verdict is not Verdict.PASSED
        )


@dataclass(frozen=True)
class RegisteredMosaic:
    """A mosaic that the database knows.

    Attributes
    ----------
    name : str
    group_id : str
    staged_path : Path
    """

    name: str
    group_id: str
    staged_path: Path


@dataclass(frozen=True)
class PublishedMosaic:
    """Outcome of publishing a mosaic.

    Attributes
    ----------
    name : str
    published : bool
        False if it was held.
    path, preview, report : Path
        Public paths if published, else where it is staged.
    reason : str
        Why it was held.
    """

    name: str
    published: bool
    path: Path
    preview: Path
    report: Path
    reason: str = ""

    @classmethod
    def at(cls, path: Path, published: bool = True, reason: str = "") -> "PublishedMosaic":
        """The mosaic with its companions, by the path of its FITS file."""
        return cls(
            path.stem, published, path, path.with_suffix(".png"), path.with_suffix(".html"), reason
        )


@dataclass(frozen=True)
class Crossmatch:
    """Outcome of a cross-match.

    Attributes
    ----------
    path : Path
        FITS file: table SOURCES has one row a found source, CATALOGUE one a catalogue source on
        observed pixels. The same as VOTables and Parquet files lie beside it.
    n_sources, n_matched, n_new, n_missing, n_discrepant : int
        Found; found and in the catalogue; found and not there; in the catalogue, bright enough,
        and not found; with another flux density than the catalogue's.
    flux_ratio : float or None
        Median of strong catalogue sources, measured over catalogue: what the flux scale lacks;
        None of too few.
    east_arcsec, north_arcsec : float or None
        Median offset of matched sources: what the astrometry lacks; None without any.
    """

    path: Path
    n_sources: int
    n_matched: int
    n_new: int
    n_missing: int
    n_discrepant: int
    flux_ratio: float | None
    east_arcsec: float | None
    north_arcsec: float | None

    def scale_text(self) -> str:
        """Flux ratio and offset in words."""
        said = "too few strong sources for a flux ratio"
        if self.flux_ratio is not None:
            said = f"flux ratio {self.flux_ratio:.3f}"
        if self.east_arcsec is not None and self.north_arcsec is not None:
            said += f", offset {self.east_arcsec:+.2f} E {self.north_arcsec:+.2f} N arcsec"
        return said


@dataclass(frozen=True)
class History:
    """Inputs and intermediate results of a mosaic.

    Attributes
    ----------
    group_id : str
        Empty in batch.
    converted : ConvertedTiles or None
        All tiles of the group; None if it began with images.
    imaged : ImagedTiles
    calibrated : CalibratedTiles
    calibration_set : SolvedSet or None
    choice : Choice or None
    options : mapping
        Of every stage, as plain values.
    by_hand : ManualFlags
    seconds : mapping of str to float
        Of each stage before this one, in the run that finished the mosaic.
    """

    group_id: str = ""
    converted: ConvertedTiles | None = None
    imaged: ImagedTiles = field(default_factory=ImagedTiles)
    calibrated: CalibratedTiles = field(default_factory=CalibratedTiles)
    calibration_set: SolvedSet | None = None
    choice: Choice | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    by_hand: ManualFlags = field(default_factory=ManualFlags)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def tile_ids(self) -> tuple[str, ...]:
        """All tiles of the group, also those without an image."""
        tiles = self.imaged.tiles if self.converted is None else self.converted.tiles
        return tuple(tile.tile_id for tile in tiles)


@dataclass(frozen=True)
class Evidence:
    """Files that are published with a mosaic, and itself.

    Attributes
    ----------
    files : tuple of (str, Path)
        Kind and path; the provenance last.
    """

    files: tuple[tuple[str, Path], ...]
