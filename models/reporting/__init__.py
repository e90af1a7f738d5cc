"""What `python -m models.report` is made of."""
