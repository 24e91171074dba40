"""Many tiles, one image: a common grid, combination, and gates before it."""

from typing import Literal, get_args

Method = Literal["mean", "weighted", "pbweighted"]
METHODS: tuple[str, ...] = get_args(Method)
