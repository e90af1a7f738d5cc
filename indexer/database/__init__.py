"""Where rows are: SQLite or PostgreSQL, one module per kind of row."""
