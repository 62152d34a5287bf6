"""Recording with the published client, unmodified: a key and a deadline of its own make it safe to try again.

pip install mudbase
USAGE_URL=http://127.0.0.1:8080 python examples/record_with_mudbase.py order-44 195.84
"""

import os
import sys
import time
from typing import Final

from mudbase import ApiClient, BillingApi, Configuration, RecordUsageRequest
from mudbase.exceptions import ServiceException
from urllib3.exceptions import HTTPError

ATTEMPTS: Final = 5
SECONDS: Final = 5.0
"""For one attempt: the client has no time limit of its own."""


def record(billing: BillingApi, key: str, quantity: float) -> str:
    """Return what the service says, once it has the record.

    The client sends no idempotency key, and tries nothing twice; the header does for the one, this loop for the other.
    """
    request = RecordUsageRequest(email="amari_koss69@northwind.dev", metric="program quantify", quantity=quantity)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = billing.record_usage(
                "proj_nCBo0AB7UWpj", request, _headers={"Idempotency-Key": key}, _request_timeout=SECONDS
            )
        except (ServiceException, HTTPError):
            # 503, or no answer: it may or may not have arrived. Any other refusal would be the same the next time.
            if attempt == ATTEMPTS:
                raise
            time.sleep(min(0.25 * 2**attempt, SECONDS))
        else:
            return str(answer.message)
    raise AssertionError


def main() -> None:
    """Record the quantity that is given, under the key that is given."""
    key, quantity = sys.argv[1:]
    with ApiClient(Configuration(host=os.environ.get("USAGE_URL", "http://127.0.0.1:8080"))) as client:
        print(record(BillingApi(client), key, float(quantity)))


if __name__ == "__main__":
    main()
