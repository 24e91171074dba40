"""The sky as seen from the telescope: directions, catalogues, models, primary beam."""
