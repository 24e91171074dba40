"""Constants of nature and of units, and the epochs of the calendars."""

import math

SPEED_OF_LIGHT_M_S = 299_792_458.0
ARCSEC_RAD = math.pi / (180 * 3600)
DAY_S = 86400.0
UNIX_EPOCH_JD = 2440587.5
MJD_ZERO_JD = 2400000.5
LOWEST_HZ, HIGHEST_HZ = 1e6, 1e12
"""Frequencies of radio astronomy: a number beyond them is in another unit."""
SIDEREAL_RATE_RAD_S = 7.292115855e-5
SIDEREAL_DAY_S = 2 * math.pi / SIDEREAL_RATE_RAD_S
"""Rotation rate of the Earth against the stars (IERS Conventions 2010, table 1.2)."""
