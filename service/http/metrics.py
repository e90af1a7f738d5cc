"""Counters and histograms; labels have few values, whatever clients send."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "person_search_requests_total",
            "Requests answered; status 499 is a client that went away.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "person_search_request_seconds",
            "Time from a request's first byte to the answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "person_search_queue_seconds",
            "Time that work waited for the model.",
            ("lane",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.work_seconds = Histogram(
            "person_search_work_seconds",
            "Time that work took, waiting left out.",
            ("lane",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "person_search_problems_total", "Problems by code.", ("code",), registry=self.registry
        )

        self.expired = Counter(
            "person_search_expired_images_total",
            "Images deleted because they were older than their camera's retention.",
            registry=self.registry,
        )

    def observe(self, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one request; route is its template, None when no route matched."""
        name = route or UNMATCHED
        known = method if method in METHODS else "other"
        self.requests.labels(known, name, str(status)).inc()
        self.seconds.labels(name).observe(seconds)

    def observe_work(self, lane: str, *, queue_ms: float, run_ms: float) -> None:
        """Count one piece of work that the model has done."""
        self.queue_seconds.labels(lane).observe(queue_ms / 1e3)
        self.work_seconds.labels(lane).observe(run_ms / 1e3)

    def watch(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        """Read these gauges (name to help and value) whenever metrics are read."""
        self.registry.register(_Gauges(gauges))

    def text(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._gauges = gauges

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # nothing is read while registering

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(name, text, value=value)
