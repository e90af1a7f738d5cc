"""Orders of hits that look at more than each hit alone."""
