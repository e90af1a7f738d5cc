"""The running parts: the HTTP service and the training command."""
