"""Actions of operators and users: verdicts on mosaics, manual flags, comparisons of images."""
