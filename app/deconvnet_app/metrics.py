"""What the server counts, in Prometheus' format; each application has a registry of its own."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNIT_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)

Look = Callable[[], Mapping[str, float]]


class _Gauges(Collector):
    """Values that are looked up when somebody asks, by one label."""

    def __init__(self, name: str, text: str, label: str, look: Look) -> None:
        self._name, self._text, self._label, self._look = name, text, label, look

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._look().items():
            family.add_metric([value], number)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The name alone: nothing is looked up for registering."""
        yield GaugeMetricFamily(self._name, self._text, labels=[self._label])


class Metrics:
    """The counters of one application; safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        route = ("method", "route", "status")
        self.requests = Histogram(
            "deconvnet_request_seconds",
            "Time until an answer has been sent",
            route,
            registry=self.registry,
        )
        self.units = Histogram(
            "deconvnet_unit_seconds",
            "Time of a computed unit in its worker",
            ("method", "model"),
            buckets=UNIT_BUCKETS,
            registry=self.registry,
        )
        self.workers_lost = Counter(
            "deconvnet_workers_lost",
            "Worker processes that ended while they computed, and were replaced",
            registry=self.registry,
        )

    def watch(self, name: str, text: str, label: str, look: Look) -> None:
        """Tell values that somebody else keeps, whenever they are asked for."""
        self.registry.register(_Gauges(name, text, label, look))

    def text(self) -> bytes:
        """All of it, for a scraper."""
        return generate_latest(self.registry)
