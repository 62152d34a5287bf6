"""A real RabbitMQ with a real MongoDB on this machine, for `make run`, tests and benchmarks.

Each as a service that can be broken and brought back:

>>> with Devstack() as stack:
...     connect(stack.broker.url, stack.database.uri)
...     stack.broker.kill()
...     stack.broker.start()
"""

from devstack.service import Broker, Database, DidNotStart, NotOurs, NotRunning, Service, Unavailable
from devstack.stack import Devstack

__all__ = ["Broker", "Database", "Devstack", "DidNotStart", "NotOurs", "NotRunning", "Service", "Unavailable"]
