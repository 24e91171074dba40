"""Theme 2: exactly what was asked, once."""
