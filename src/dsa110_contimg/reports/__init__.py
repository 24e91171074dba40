"""Pages of evidence: what users and operators read about mosaics and tiles."""
