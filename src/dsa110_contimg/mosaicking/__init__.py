"""Many tiles, one image: a common grid, combination, and gates before it."""
