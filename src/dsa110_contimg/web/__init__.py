"""The dashboard: pages over the same queries as REST, rendered here, served from our own files."""
