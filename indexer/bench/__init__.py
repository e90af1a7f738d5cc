"""How fast a gallery is."""
