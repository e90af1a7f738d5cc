"""The route of the page."""
