"""Where vectors are searched: engines, which are caches of the database."""
