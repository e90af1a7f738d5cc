"""Where pictures are: the originals, on disk or in object storage."""
