"""Alembic's migrations of a gallery's database; the store runs them when it opens one."""
