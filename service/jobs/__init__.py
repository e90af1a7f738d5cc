"""Routes about jobs, and the jobs that add pictures."""
