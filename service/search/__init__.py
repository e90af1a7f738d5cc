"""Routes that search."""
