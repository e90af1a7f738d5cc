"""Made-up people, rendered in 3D from MakeHuman's CC0 assets."""
