"""Galleries: which scenes are stored, who is in them, and how to find the nearest."""
