"""Routes about snapshots, erasures, the audit trail and the index."""
