"""Training, exporting and checking a person search model."""
