"""Routes about pictures and the people in them."""
