"""What users get: publication that happens exactly once, and where a product came from."""
