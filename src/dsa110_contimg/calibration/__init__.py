"""Gains of the antennas: predicted visibilities, solutions, tables, application."""
