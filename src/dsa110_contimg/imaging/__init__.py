"""From visibilities to images: weighting, gridding, CLEAN, restoration, FITS."""
