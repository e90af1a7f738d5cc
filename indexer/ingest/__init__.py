"""From picture files to stored scenes."""
