"""What a gallery stores: a module for each kind of row, functions that take a connection."""
