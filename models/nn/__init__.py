"""Networks in torch: built, loaded and exported here, and nowhere else but in training."""
