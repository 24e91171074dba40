"""A known sky through a known instrument, in the telescope's own files."""
