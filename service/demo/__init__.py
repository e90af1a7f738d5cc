"""The demo, and what drives a service of one's own."""
