"""The one database: what exists, in which state, and who works on it."""
