"""What a root holds, as Python objects: mosaics, their images and catalogues, light curves."""

from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_contimg import settings as settings_module
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.light_curves import MOSAIC, TILE, light_curves
from dsa110_contimg.registry.mosaics import MosaicDetail, MosaicSummary, get_mosaic, list_mosaics
from dsa110_contimg.registry.sources import SourceFilter, find_source, query_sources
from dsa110_contimg.sky.cones import Cone
from dsa110_contimg.sources.behaviour import Behaviour

if TYPE_CHECKING:
    from astropy.table import Table

    from dsa110_contimg.imaging.fits_image import Image

_ALL = 2**31 - 1


class Archive:
    """The products of a root; nothing is changed.

    Parameters
    ----------
    root : str or Path, optional
        Default: CONTIMG_ROOT, or the working directory.

    Raises
    ------
    UsageError
        If the root has no database.

    Examples
    --------
    >>> archive = Archive("demo")
    >>> name = archive.mosaics()[0].name
    >>> image = archive.image(name)
    >>> image.pixels.shape, image.wcs
    >>> bright = archive.catalogue(name)
    >>> archive.sources(ra_deg=340.9, dec_deg=14.8, radius_deg=1.0)
    >>> archive.light_curve("DSA J224347.3+144750")
    """

    def __init__(self, root: str | Path | None = None):
        self._settings = settings_module.load(root=root)
        self._registry = Registry.of(self._settings, create=False)

    def mosaics(self) -> list[MosaicSummary]:
        """All mosaics, the newest first."""
        return list_mosaics(self._registry, _ALL)

    def mosaic(self, name: str) -> MosaicDetail:
        """A mosaic with its gates, tiles and files.

        Raises
        ------
        UsageError
            If there is none of this name.
        """
        return get_mosaic(self._registry, name)

    def image(self, name: str, kind: str = "mosaic") -> "Image":
        """The image of a published mosaic, with `pixels` (Jy/beam), `wcs` and `beam`.

        Parameters
        ----------
        name : str
        kind : str
            mosaic, rms, weight or coverage.
        """
        from dsa110_contimg.imaging.image_reader import read_fits

        return read_fits(self._product(name, kind))

    def catalogue(self, name: str) -> "Table":
        """The sources that were found on a published mosaic, with units."""
        from astropy.table import Table

        from dsa110_contimg.sources import catalogue_file

        return Table.read(self._product(name, "catalogue"), hdu=catalogue_file.SOURCES)

    def sources(
        self,
        *,
        ra_deg: float | None = None,
        dec_deg: float | None = None,
        radius_deg: float = 0.1,
        name: str = "",
        behaviour: Behaviour | str | None = None,
        min_modulation: float | None = None,
        min_eta: float | None = None,
        dips: bool = False,
        limit: int = _ALL,
    ) -> "Table":
        """Sources that meet every condition, those that vary most first.

        Parameters
        ----------
        ra_deg, dec_deg, radius_deg : float
            Cone.
        name : str
            Part of the name.
        behaviour : Behaviour or str, optional
        min_modulation, min_eta : float, optional
            Minimum of V (standard deviation over mean) and of eta (reduced chi-square).
        dips : bool
            Only candidates for extreme scattering events.
        limit : int

        Returns
        -------
        astropy.table.Table
            A row for each; flux densities in Jy, what is not known masked.
        """
        if (ra_deg is None) != (dec_deg is None):
            raise UsageError("give ra_deg and dec_deg together")
        cone = None if ra_deg is None or dec_deg is None else Cone(ra_deg, dec_deg, radius_deg)
        try:
            does = None if behaviour is None else Behaviour(behaviour)
        except ValueError as error:
            known = ", ".join(Behaviour)
            raise UsageError(f"behaviour {behaviour!r}: choose one of {known}") from error
        wanted = SourceFilter(cone, name, does, min_modulation, min_eta, dips)
        with self._registry.read() as session:
            found = query_sources(session, wanted, limit)
        return _source_table([one.model_dump() for one in found.sources])

    def light_curve(self, source: str | int, *, tiles: bool = False) -> "Table":
        """Flux densities of a source, one row an epoch.

        Parameters
        ----------
        source : str or int
            Name or number.
        tiles : bool
            Epochs are tiles, not mosaics.

        Returns
        -------
        astropy.table.Table
            Columns time (UTC), flux_density, error (both Jy) and image; `meta` has the source.

        Raises
        ------
        UsageError
            If there is no such source.
        """
        import numpy as np
        from astropy import units
        from astropy.table import Table
        from astropy.time import Time

        with self._registry.read() as session:
            found = find_source(session, str(source))
            curve = light_curves(session, [found.id], TILE if tiles else MOSAIC).get(found.id)
        nothing = np.empty(0)
        observed, flux_jy, error_jy, images = (
            (nothing, nothing, nothing, ())
            if curve is None
            else (curve.observed, curve.flux_jy, curve.error_jy, curve.image)
        )
        return Table(
            {
                "time": Time(Time(observed, format="unix", scale="utc"), format="isot"),
                "flux_density": flux_jy * units.Jy,
                "error": error_jy * units.Jy,
                "image": np.array(images, str),
            },
            meta=found.model_dump(),
        )

    def _product(self, name: str, kind: str) -> Path:
        paths = {product.kind: product.path for product in self.mosaic(name).products}
        if kind not in paths:
            have = ", ".join(sorted(paths)) or "nothing"
            raise UsageError(f"{name}: has no {kind} that is published (there is {have})")
        return paths[kind]


def _source_table(rows: list[dict[str, object]]) -> "Table":
    import numpy as np
    from astropy import units
    from astropy.table import MaskedColumn, Table

    from dsa110_contimg.registry.sources import SourceSummary

    given_units = {"ra_deg": units.deg, "dec_deg": units.deg}
    given_units |= dict.fromkeys(("mean_jy", "catalogue_jy"), units.Jy)
    table = Table()
    for name, field in SourceSummary.model_fields.items():
        values = [row[name] for row in rows]
        absent = [value is None for value in values]
        is_number = "float" in str(field.annotation)
        filled = [np.nan if gone else value for value, gone in zip(values, absent, strict=True)]
        column = np.array(filled, float) if is_number else np.array(values)
        table[name] = MaskedColumn(column, mask=absent, unit=given_units.get(name))
    return table
