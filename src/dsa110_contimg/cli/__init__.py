"""Faces for the terminal: parse, call, present."""
