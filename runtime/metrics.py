"""The numbers of a process, in Prometheus' format."""

import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def new_registry() -> CollectorRegistry:
    """Return a registry that tells of the process itself: memory, file descriptors, CPU, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class PlainCounter(Collector):
    """A counter without labels for what every request does, in one thread: whoever counts only adds to `count`."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self.count = 0
        self._created = time.time()
        registry.register(self)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Tell the registry the name, so that it refuses another of the same."""
        yield CounterMetricFamily(self._name, self._documentation)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Tell the registry how many."""
        yield CounterMetricFamily(self._name, self._documentation, value=self.count, created=self._created)


def from_zero(counter: Counter, values: Iterable[str]) -> None:
    """Show a counter with one label for each of these values before there is anything to count.

    A monitor sees an increase only from a number it has read: else the first of each kind would go unnoticed.
    """
    for value in values:
        counter.labels(value)


def expose(registry: CollectorRegistry) -> bytes:
    """Return all numbers as text."""
    return generate_latest(registry)
