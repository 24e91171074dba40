"""Numbers in words."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Name a number of things: "no tiles", "1 tile", "2 tiles".

    Parameters
    ----------
    number : int
    noun : str
        The singular.
    plural : str
        Default: the singular and an s.
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number or 'no'} {plural or f'{noun}s'}"


def noise_text(rms_jy: float, expected_jy: float | None) -> str:
    """Noise in mJy per beam beside the expected one: "0.35 mJy/beam (expected 0.32)"."""
    said = f"{1e3 * rms_jy:.3g} mJy/beam"
    return said if expected_jy is None else f"{said} (expected {1e3 * expected_jy:.3g})"
