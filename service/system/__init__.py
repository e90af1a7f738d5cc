"""Routes about the service itself and its keys."""
