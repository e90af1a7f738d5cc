"""How well people are found again in a gallery."""
