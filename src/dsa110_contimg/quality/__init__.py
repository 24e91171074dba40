"""How good a product is: gates with numbers, previews, reports."""
