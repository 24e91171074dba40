"""What operators and users decide or look into by hand."""
