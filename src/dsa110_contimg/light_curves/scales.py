"""Flux scales of epochs, by the sources that they have in common with other epochs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dsa110_contimg.registry import light_curves as rows
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.sources.epoch_scale import epoch_scale


def compare_scales(registry: Registry, kind: str, names: Sequence[str], ids: np.ndarray) -> None:
    """Put epochs on the flux scale of the sources' other epochs.

    Earlier epochs of these sources that could be compared with none are compared then. Years of
    light curves are read before the transaction that writes begins.

    Parameters
    ----------
    registry : Registry
    kind : str
        MOSAIC or TILE.
    names : sequence of str
        Epochs.
    ids : ndarray of int
        Numbers of sources.
    """
    if names:
        _set_scales(registry, kind, names, ids)
        _set_scales(registry, kind, None, ids)


def _set_scales(
    registry: Registry, kind: str, names: Sequence[str] | None, ids: np.ndarray
) -> None:
    """Compare epochs: those named, or those that were never compared."""
    with registry.read() as session:
        scales = rows.image_scales(session, kind, names)
        curves = list(rows.light_curves(session, ids.tolist(), kind).values()) if scales else []
    compared = _compared(curves, scales)
    with registry.write() as session:
        for name, columns in compared.items():
            found = epoch_scale(*np.array(columns, float).reshape(-1, 4).T)
            if found.n_sources or names is not None:
                rows.set_image_scale(session, name, found)


def _compared(
    curves: Iterable[rows.LightCurve], scales: Mapping[str, float]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Sources of epochs: flux density and noise as measured, and those of all other epochs.

    Parameters
    ----------
    curves : iterable of LightCurve
    scales : mapping
        What the flux densities of the epochs to compare are divided by in the curves.
    """
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in scales}
    for curve in curves:
        weight = curve.error_jy**-2.0
        total, weighted = weight.sum(), (weight * curve.flux_jy).sum()
        for k, name in enumerate(curve.image if len(curve.image) > 1 else ()):
            if name in scales:
                rest = total - weight[k]
                usual = (weighted - weight[k] * curve.flux_jy[k]) / rest
                flux, noise = scales[name] * curve.flux_jy[k], scales[name] * curve.noise_jy[k]
                found[name].append((flux, noise, usual, rest**-0.5))
    return found
