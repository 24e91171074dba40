"""Numbers of things in words."""


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
