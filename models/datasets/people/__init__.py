"""People who do not exist, drawn in three dimensions from MakeHuman's CC0 assets."""
