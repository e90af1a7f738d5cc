"""Routes about models and the generations that they make."""
