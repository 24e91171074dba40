"""Records that stages exchange: tiles, calibration sets, mosaics."""
