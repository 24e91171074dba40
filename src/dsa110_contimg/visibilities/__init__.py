"""Visibilities on their way: sub-band files, phasing, Measurement Sets, flags, averages."""
