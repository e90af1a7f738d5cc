"""What every route needs: the edge, errors, authorisation, bodies, idempotency."""
