"""The database of a gallery: a file of SQLite or PostgreSQL, its tables and their migrations."""
