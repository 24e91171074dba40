"""REST: jobs and products."""
