"""Every known source measured on every image: epochs, their flux scales, and what varies."""
