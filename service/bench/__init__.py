"""What the service costs beside the model."""
