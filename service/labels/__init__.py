"""Routes about labels, calibrations and evaluations."""
