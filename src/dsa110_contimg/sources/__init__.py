"""Sources in images: measured at known positions, found, matched."""
