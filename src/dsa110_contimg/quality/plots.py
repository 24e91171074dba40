"""Plots for reports and the command line, as the bytes of a picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsa110_contimg.constants import DAY_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG = "png"
BLUE = "#1f5fa8"
_RED = "#b3261e"
_POLARIZATIONS = "XY"
_SHOWN_PERCENT = 95.0
"""Share of sources that a plot must hold; the others lie at its edge or outside."""
_MIN_RATIO_REACH = 0.05
_MIN_OFFSET_REACH_ARCSEC = 1.0
_MIN_MARGIN_DAYS = 0.25
_MIN_SPAN = 0.1
"""Of an axis of amplitudes, relative to their median."""
# Equal figures are equal bytes.
_METADATA = {PNG: {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def form_of(path: Path) -> str:
    """Form of a picture by the ending of its name."""
    return path.suffix.removeprefix(".")


def blank_figure(width: float, height: float, dpi: int = 110) -> "Figure":
    """A figure without axes (inches), drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float = 5.5, height: float = 4.2) -> "tuple[Figure, Axes]":
    figure = blank_figure(width, height)
    return figure, figure.add_subplot()


def encoded(figure: "Figure", form: str = PNG) -> bytes:
    """The bytes of a picture: equal for equal figures."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=_METADATA[form])
    return buffer.getvalue()


def _show_span(axes: "Axes", values: np.ndarray, min_span: float) -> None:
    """Fit the y axis to values, but never to less than a span, with plain numbers on it."""
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    finite = values[np.isfinite(values)]
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        margin = max(0.05 * (high - low), 0.5 * (min_span - (high - low)))
        axes.set_ylim(low - margin, high + margin)


def flux_against_catalogue(
    catalogue_jy: np.ndarray, measured_jy: np.ndarray, noise_jy: np.ndarray, unlike: np.ndarray
) -> bytes:
    """Ratio of measured to catalogue flux density, with errors.

    Parameters
    ----------
    catalogue_jy, measured_jy, noise_jy : ndarray, shape (nsource,)
    unlike : ndarray of bool, shape (nsource,)
        Sources that are drawn as different from the catalogue.
    """
    figure, axes = _figure()
    ratio, error = measured_jy / catalogue_jy, noise_jy / catalogue_jy
    spread = np.percentile(np.abs(ratio - 1) + error, _SHOWN_PERCENT) if ratio.size else 0.0
    reach = 1.2 * max(_MIN_RATIO_REACH, float(spread))
    for some, color in ((~unlike, BLUE), (unlike, _RED)):
        axes.errorbar(
            1e3 * catalogue_jy[some],
            np.clip(ratio[some], 1 - reach, 1 + reach),
            error[some],
            fmt=".",
            ms=5,
            elinewidth=0.6,
            color=color,
            label="differs from the catalogue" if some is unlike and some.any() else None,
        )
    for beyond, marker in ((ratio > 1 + reach, "^"), (ratio < 1 - reach, "v")):
        edge = np.full(np.count_nonzero(beyond), 1 + reach if marker == "^" else 1 - reach)
        axes.plot(1e3 * catalogue_jy[beyond], edge, marker, ms=7, color=_RED, clip_on=False)
    axes.axhline(1.0, color="0.5", lw=0.8)
    axes.axhline(float(np.median(ratio)), color=BLUE, lw=0.8, ls="--", label="median")
    axes.set(
        xscale="log",
        ylim=(1 - reach, 1 + reach),
        xlabel="catalogue flux density (mJy)",
        ylabel="measured / catalogue",
    )
    axes.legend(frameon=False, fontsize=8)
    return encoded(figure)


def position_offsets(
    east_arcsec: np.ndarray, north_arcsec: np.ndarray, error_arcsec: np.ndarray
) -> bytes:
    """Measured minus catalogue positions, with errors."""
    figure, axes = _figure(4.4, 4.2)
    axes.errorbar(
        east_arcsec,
        north_arcsec,
        error_arcsec,
        error_arcsec,
        fmt=".",
        ms=5,
        elinewidth=0.4,
        color=BLUE,
    )
    distance = np.hypot(east_arcsec, north_arcsec)
    reach = 1.2 * max(_MIN_OFFSET_REACH_ARCSEC, float(np.percentile(distance, _SHOWN_PERCENT)))
    axes.plot(np.median(east_arcsec), np.median(north_arcsec), "+", ms=12, color=_RED)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.axvline(0, color="0.5", lw=0.8)
    axes.set(
        xlim=(reach, -reach),
        ylim=(-reach, reach),
        aspect="equal",
        xlabel="offset east (arcsec)",
        ylabel="offset north (arcsec)",
    )
    return encoded(figure)


def ratios_over_declination(
    dec_deg: np.ndarray, ratio: np.ndarray, corrected: np.ndarray, form: str = PNG
) -> bytes:
    """Measured over catalogue flux densities, before and after a correction of the beam."""
    figure, axes = _figure()
    axes.plot(dec_deg, ratio, ".", ms=5, color="#c2b280", label="as measured")
    axes.plot(dec_deg, corrected, ".", ms=5, color=BLUE, label="with the beam that was found")
    axes.axhline(1.0, color="0.5", lw=0.8)
    axes.set(ylim=(0, 2), xlabel="declination (deg)", ylabel="measured / catalogue")
    axes.legend(frameon=False)
    return encoded(figure, form)


def beam_history(
    observed: Sequence[float],
    values: np.ndarray,
    errors: np.ndarray,
    mean: np.ndarray,
    mean_error: np.ndarray,
    form: str = PNG,
) -> bytes:
    """Width and pointing of the primary beam over time, and what they combine to.

    Parameters
    ----------
    observed : sequence of float
        Unix seconds.
    values, errors : ndarray, shape (nset, 3)
        Width relative to the dish's, pointing east and north (arcmin).
    mean, mean_error : ndarray, shape (3,)
    form : str
    """
    figure = blank_figure(7, 6)
    times = np.array([round(1e3 * second) for second in observed], "datetime64[ms]")
    labels = ("width / dish's", "east (arcmin)", "north (arcmin)")
    for k, axes in enumerate(figure.subplots(3, 1, sharex=True)):
        axes.errorbar(times, values[:, k], errors[:, k], fmt=".", ms=6, elinewidth=0.8, color=BLUE)
        axes.axhline(mean[k], color="0.3", lw=0.8)
        axes.axhspan(mean[k] - mean_error[k], mean[k] + mean_error[k], color="0.85", lw=0)
        axes.set_ylabel(labels[k])
    figure.autofmt_xdate()
    return encoded(figure, form)


def bandpass(frequencies_hz: np.ndarray, values: np.ndarray, flags: np.ndarray) -> bytes:
    """Amplitude and phase of every antenna's bandpass, shape (nantenna, nchan, npol)."""
    figure = blank_figure(11, 4)
    shown = np.where(flags, np.nan, values)
    mhz = frequencies_hz / 1e6
    left, right = figure.subplots(1, 2)
    for axes, quantity, label in (
        (left, np.abs(shown), "amplitude"),
        (right, np.angle(shown, deg=True), "phase (deg)"),
    ):
        for pol in range(shown.shape[2]):
            axes.plot(mhz, quantity[:, :, pol].T, lw=0.4, alpha=0.5, color=f"C{pol}")
            name = f"median of {_POLARIZATIONS[pol]}"
            median = [
                np.median(of_channel[~flagged]) if not flagged.all() else np.nan
                for of_channel, flagged in zip(
                    quantity[:, :, pol].T, flags[:, :, pol].T, strict=True
                )
            ]
            axes.plot(mhz, median, color=f"C{pol}", label=name)
        axes.set(xlabel="frequency (MHz)", ylabel=label)
    # A channel that is left over between flags may have any gain.
    usual = np.nanpercentile(np.abs(shown), (0.5, 99.5)) if np.isfinite(shown).any() else np.ones(1)
    _show_span(left, usual, _MIN_SPAN * float(usual.mean()))
    right.set_ylim(-185, 185)
    left.legend(frameon=False, fontsize=8)
    return encoded(figure)


def antenna_gains(
    frequencies_hz: np.ndarray,
    values: np.ndarray,
    flags: np.ndarray,
    names: Sequence[str],
    title: str = "",
    form: str = PNG,
) -> bytes:
    """Amplitude and phase of the antennas that are not wholly flagged.

    Against frequency, a panel an antenna; one solution for the whole band against the antenna.

    Parameters
    ----------
    frequencies_hz : ndarray, shape (nchan,)
    values, flags : ndarray, shape (nantenna, nchan, npol)
    names : sequence of str
    title : str
    form : str
    """
    alive = np.flatnonzero(~flags.all(axis=(1, 2)))
    shown = np.where(flags, np.nan, values)[alive]
    alive_names = [names[k] for k in alive]
    draw = _over_antennas if frequencies_hz.size == 1 else _over_frequency
    figure = draw(frequencies_hz / 1e6, shown, alive_names)
    figure.suptitle(title, fontsize=10)
    hands = [
        figure.axes[0].plot([], [], ".-", color=f"C{pol}", label=_POLARIZATIONS[pol])[0]
        for pol in range(shown.shape[2])
    ]
    figure.legend(handles=hands, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return encoded(figure, form)


def _over_antennas(_mhz: np.ndarray, shown: np.ndarray, names: Sequence[str]) -> "Figure":
    """Amplitude above phase, antennas side by side."""
    figure = blank_figure(max(6.0, 0.16 * len(names)), 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    place = np.arange(len(names))
    for pol in range(shown.shape[2]):
        for axes, quantity in ((upper, np.abs(shown)), (lower, np.angle(shown, deg=True))):
            axes.plot(place, quantity[:, 0, pol], ".", ms=5, color=f"C{pol}")
    _show_span(upper, np.abs(shown), _MIN_SPAN * float(np.nanmedian(np.abs(shown))))
    _show_span(lower, np.angle(shown, deg=True), 2.0)
    for axes in (upper, lower):
        axes.grid(axis="x", lw=0.3, color="0.85")
    upper.set_ylabel("amplitude")
    lower.set(ylabel="phase (deg)", xlabel="antenna", xlim=(-1, len(names)))
    lower.set_xticks(place, names, rotation=90, fontsize=6)
    return figure


def _over_frequency(mhz: np.ndarray, shown: np.ndarray, names: Sequence[str]) -> "Figure":
    """A panel of amplitude above one of phase for each antenna."""
    columns = min(8, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = blank_figure(2.0 * columns, 2.2 * rows, dpi=90)
    panels = figure.subplots(2 * rows, columns, sharex=True, squeeze=False)
    for axes in panels.ravel():
        axes.tick_params(labelsize=6)
        axes.set_visible(False)
    for place, name in enumerate(names):
        row, column = divmod(place, columns)
        amplitude, phase_deg = np.abs(shown[place]), np.angle(shown[place], deg=True)
        for axes, quantity in (
            (panels[2 * row, column], amplitude),
            (panels[2 * row + 1, column], phase_deg),
        ):
            axes.set_visible(True)
            for pol in range(shown.shape[2]):
                axes.plot(mhz, quantity[:, pol], lw=0.7, color=f"C{pol}")
        _show_span(panels[2 * row, column], amplitude, _MIN_SPAN * float(np.nanmedian(amplitude)))
        panels[2 * row, column].set_title(name, fontsize=7, pad=2)
        panels[2 * row + 1, column].set_ylim(-185, 185)
        if column == 0:
            panels[2 * row, column].set_ylabel("amplitude", fontsize=6)
            panels[2 * row + 1, column].set_ylabel("phase (deg)", fontsize=6)
        if row == rows - 1:
            panels[2 * row + 1, column].set_xlabel("MHz", fontsize=6)
    return figure


def stage_graph(edges: Mapping[str, Sequence[str]], form: str = PNG) -> bytes:
    """A drawing of stages and what follows what.

    Parameters
    ----------
    edges : mapping of str to sequence of str
        Stages in an order of running, each with those it follows.
    form : str
    """
    column: dict[str, int] = {}
    for name, before in edges.items():
        column[name] = 1 + max((column[one] for one in before), default=-1)
    place: dict[str, tuple[int, int]] = {}
    for name in edges:
        row = sum(other[0] == column[name] for other in place.values())
        place[name] = (column[name], row)
    farthest = max(column[name] - column[one] for name in edges for one in edges[name])
    # Room above for the arrow that goes round most.
    top, bottom = 0.5 + 0.25 * farthest, 0.5 + max(row for _, row in place.values())
    figure, axes = _figure(1.5 * (1 + max(column.values())), 0.9 * (top + bottom))
    boxes = {
        name: axes.text(
            x,
            -y,
            name,
            ha="center",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.4", "fc": "#dbe8f6", "ec": BLUE},
        )
        for name, (x, y) in place.items()
    }
    for name, before in edges.items():
        for one in before:
            # Stages that lie between are gone round.
            bend = 0.0 if column[name] - column[one] == 1 else -0.3
            axes.annotate(
                "",
                (place[name][0], -place[name][1]),
                (place[one][0], -place[one][1]),
                arrowprops={
                    "arrowstyle": "->",
                    "color": "0.4",
                    "connectionstyle": f"arc3,rad={bend}",
                    "patchA": boxes[one].get_bbox_patch(),
                    "patchB": boxes[name].get_bbox_patch(),
                    "shrinkA": 2,
                    "shrinkB": 2,
                },
            )
    axes.set_axis_off()
    axes.set(xlim=(-0.6, max(column.values()) + 0.6), ylim=(-bottom, top))
    return encoded(figure, form)


def light_curve(
    observed: np.ndarray, flux_jy: np.ndarray, error_jy: np.ndarray, title: str, form: str = PNG
) -> bytes:
    """Flux density against time (Unix seconds); arrows down where nothing is seen."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, axes = _figure(7.0, 3.6)
    days = observed / DAY_S
    seen = flux_jy >= 3 * error_jy
    axes.errorbar(
        days[seen],
        1e3 * flux_jy[seen],
        1e3 * error_jy[seen],
        fmt="o",
        ms=4,
        elinewidth=0.8,
        color=BLUE,
    )
    limits = 1e3 * (np.maximum(flux_jy, 0) + 3 * error_jy)[~seen]
    axes.plot(days[~seen], limits, "v", ms=6, mfc="none", color=BLUE)
    drawn = [1e3 * (flux_jy - error_jy)[seen], 1e3 * (flux_jy + error_jy)[seen], limits]
    _show_span(axes, np.concatenate(drawn), 0.0)
    margin_days = max(0.05 * float(np.ptp(days)), _MIN_MARGIN_DAYS)
    axes.set_xlim(days.min() - margin_days, days.max() + margin_days)
    locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set(xlabel="observed (UTC)", ylabel="flux density (mJy)", title=title)
    return encoded(figure, form)
