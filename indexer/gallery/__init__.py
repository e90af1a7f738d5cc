"""The gallery: what is done with scenes, people and generations."""
