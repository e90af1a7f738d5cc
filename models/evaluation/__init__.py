"""Detection and search metrics, free of torch."""
