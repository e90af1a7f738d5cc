"""Exit code 0 when the service in this container is ready; for Docker's HEALTHCHECK."""

import os
import sys
import urllib.request

port = os.environ.get("PERSON_SEARCH_PORT", "")
if not port.strip().isdigit():  # Kubernetes sets tcp://IP:PORT for a Service named person-search
    port = "8000"
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=4) as answer:
        sys.exit(0 if answer.status == 200 else 1)
except OSError as error:  # urllib's errors are OSErrors
    sys.exit(f"not ready: {error}")
