"""Plots for reports, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsa110_contimg.constants import DAY_S


def _figure(width: float = 5.5, height: float = 4.2) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def flux_against_catalogue(
    catalogue_jy: np.ndarray, measured_jy: np.ndarray, noise_jy: np.ndarray
) -> bytes:
    """Ratio of measured to catalogue flux density, with errors."""
    figure, axes = _figure()
    axes.errorbar(
        1e3 * catalogue_jy,
        measured_jy / catalogue_jy,
        noise_jy / catalogue_jy,
        fmt=".",
        ms=5,
        elinewidth=0.6,
        color="#1f5fa8",
    )
    axes.axhline(1.0, color="0.5", lw=0.8)
    axes.set(
        xscale="log",
        ylim=(0, 2),
        xlabel="catalogue flux density (mJy)",
        ylabel="measured / catalogue",
    )
    return _png(figure)


def position_offsets(east_arcsec: np.ndarray, north_arcsec: np.ndarray) -> bytes:
    """Measured minus catalogue positions."""
    figure, axes = _figure(4.4, 4.2)
    axes.plot(east_arcsec, north_arcsec, ".", ms=5, color="#1f5fa8")
    reach = 1.2 * max(1.0, float(np.percentile(np.hypot(east_arcsec, north_arcsec), 95)))
    axes.axhline(0, color="0.5", lw=0.8)
    axes.axvline(0, color="0.5", lw=0.8)
    axes.set(
        xlim=(reach, -reach),
        ylim=(-reach, reach),
        aspect="equal",
        xlabel="offset east (arcsec)",
        ylabel="offset north (arcsec)",
    )
    return _png(figure)


def ratios_over_declination(dec_deg: np.ndarray, ratio: np.ndarray, corrected: np.ndarray) -> bytes:
    """Measured over catalogue flux densities, before and after a correction of the beam."""
    figure, axes = _figure()
    axes.plot(dec_deg, ratio, ".", ms=5, color="#c2b280", label="as measured")
    axes.plot(dec_deg, corrected, ".", ms=5, color="#1f5fa8", label="with the beam that was found")
    axes.axhline(1.0, color="0.5", lw=0.8)
    axes.set(ylim=(0, 2), xlabel="declination (deg)", ylabel="measured / catalogue")
    axes.legend(frameon=False)
    return _png(figure)


def beam_history(
    observed: Sequence[float],
    values: np.ndarray,
    errors: np.ndarray,
    mean: np.ndarray,
    mean_error: np.ndarray,
) -> bytes:
    """Width and pointing of the primary beam over time, and what they combine to.

    Parameters
    ----------
    observed : sequence of float
        Unix seconds.
    values, errors : ndarray, shape (nset, 3)
        Width relative to the dish's, pointing east and north (arcmin).
    mean, mean_error : ndarray, shape (3,)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    times = np.array([round(1e3 * second) for second in observed], "datetime64[ms]")
    labels = ("width / dish's", "east (arcmin)", "north (arcmin)")
    for k, axes in enumerate(figure.subplots(3, 1, sharex=True)):
        axes.errorbar(
            times, values[:, k], errors[:, k], fmt=".", ms=6, elinewidth=0.8, color="#1f5fa8"
        )
        axes.axhline(mean[k], color="0.3", lw=0.8)
        axes.axhspan(mean[k] - mean_error[k], mean[k] + mean_error[k], color="0.85", lw=0)
        axes.set_ylabel(labels[k])
    figure.autofmt_xdate()
    return _png(figure)


def bandpass(frequencies_hz: np.ndarray, values: np.ndarray, flags: np.ndarray) -> bytes:
    """Amplitude and phase of every antenna's bandpass, shape (nantenna, nchan, npol)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    shown = np.where(flags, np.nan, values)
    mhz = frequencies_hz / 1e6
    for axes, quantity, label in zip(
        figure.subplots(1, 2),
        (np.abs(shown), np.angle(shown, deg=True)),
        ("amplitude", "phase (degrees)"),
        strict=True,
    ):
        for pol in range(shown.shape[2]):
            axes.plot(mhz, quantity[:, :, pol].T, lw=0.5, alpha=0.6, color=f"C{pol}")
        axes.set(xlabel="frequency (MHz)", ylabel=label)
    return _png(figure)


def antenna_gains(
    frequencies_hz: np.ndarray, values: np.ndarray, flags: np.ndarray, names: Sequence[str]
) -> bytes:
    """Amplitude and phase against frequency, a panel an antenna that is not wholly flagged.

    Parameters
    ----------
    frequencies_hz : ndarray, shape (nchan,)
    values, flags : ndarray, shape (nantenna, nchan, npol)
    names : sequence of str
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alive = np.flatnonzero(~flags.all(axis=(1, 2)))
    columns = min(8, max(1, alive.size))
    rows = max(1, -(-alive.size // columns))
    figure = Figure(figsize=(2.0 * columns, 2.2 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 * rows, columns, sharex=True, squeeze=False)
    for axes in panels.ravel():
        axes.tick_params(labelsize=6)
        axes.set_visible(False)
    mhz = frequencies_hz / 1e6
    marker = "." if mhz.size == 1 else ""
    for place, antenna in enumerate(alive):
        row, column = divmod(place, columns)
        shown = np.where(flags[antenna], np.nan, values[antenna])
        for axes, quantity in (
            (panels[2 * row, column], np.abs(shown)),
            (panels[2 * row + 1, column], np.angle(shown, deg=True)),
        ):
            axes.set_visible(True)
            for pol in range(shown.shape[1]):
                axes.plot(mhz, quantity[:, pol], marker=marker, lw=0.7, color=f"C{pol}")
        panels[2 * row, column].set_title(names[antenna], fontsize=7, pad=2)
        panels[2 * row + 1, column].set_ylim(-185, 185)
        if column == 0:
            panels[2 * row, column].set_ylabel("amplitude", fontsize=6)
            panels[2 * row + 1, column].set_ylabel("phase (deg)", fontsize=6)
        if row == rows - 1:
            panels[2 * row + 1, column].set_xlabel("MHz", fontsize=6)
    return _png(figure)


def stage_graph(edges: Mapping[str, Sequence[str]], kind: str = "png") -> bytes:
    """A drawing of stages and what follows what.

    Parameters
    ----------
    edges : mapping of str to sequence of str
        Stages in an order of running, each with those it follows.
    kind : str
        png or svg.
    """
    column: dict[str, int] = {}
    for name, before in edges.items():
        column[name] = 1 + max((column[one] for one in before), default=-1)
    place: dict[str, tuple[int, int]] = {}
    for name in edges:
        row = sum(other[0] == column[name] for other in place.values())
        place[name] = (column[name], row)
    figure, axes = _figure(
        1.5 * (1 + max(column.values())), 1.2 + 0.9 * max(p[1] for p in place.values())
    )
    for name, before in edges.items():
        for one in before:
            # Stages that lie between are gone round.
            bend = 0.0 if column[name] - column[one] == 1 else -0.3
            axes.annotate(
                "",
                (place[name][0] - 0.38, -place[name][1]),
                (place[one][0] + 0.38, -place[one][1]),
                arrowprops={
                    "arrowstyle": "->",
                    "color": "0.4",
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
        axes.text(
            place[name][0],
            -place[name][1],
            name,
            ha="center",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.4", "fc": "#dbe8f6", "ec": "#1f5fa8"},
        )
    axes.set_axis_off()
    axes.set(
        xlim=(-0.6, max(column.values()) + 0.6),
        ylim=(-max(p[1] for p in place.values()) - 0.7, 0.7),
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def light_curve(
    observed: np.ndarray, flux_jy: np.ndarray, error_jy: np.ndarray, title: str
) -> bytes:
    """Flux density against time (Unix seconds); arrows down where nothing is seen."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, axes = _figure(7.0, 3.6)
    days = observed / DAY_S
    seen = flux_jy >= 3 * error_jy
    blue = "#1f5fa8"
    axes.errorbar(
        days[seen],
        1e3 * flux_jy[seen],
        1e3 * error_jy[seen],
        fmt="o",
        ms=4,
        elinewidth=0.8,
        color=blue,
    )
    limits = 1e3 * (np.maximum(flux_jy, 0) + 3 * error_jy)[~seen]
    axes.plot(days[~seen], limits, "v", ms=6, mfc="none", color=blue)
    axes.axhline(0.0, color="0.7", lw=0.8)
    locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set(xlabel="UTC", ylabel="flux density (mJy)", title=title)
    return _png(figure)
