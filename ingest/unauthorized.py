"""The answer to a credential that is missing or not valid."""

from typing import Final, Literal

BEARER: Final = 'Bearer realm="usage-ingest"'
WEBHOOK: Final = 'StandardWebhooks realm="usage-ingest"'
"""Not a registered scheme; HTTP wants a challenge with every 401, and there is none for signatures."""

Why = Literal["missing", "malformed", "unknown", "expired", "mismatch", "stale"]
"""What was wrong with a credential: for logs and metrics, more than the client is told."""


class Unauthorized(Exception):
    """The request has no credential, or one that is not valid; the text says what to send.

    `headers` are for the answer: HTTP wants a challenge with every 401.
    """

    def __init__(self, sentence: str, *, why: Why, challenge: str) -> None:
        super().__init__(sentence)
        self.why = why
        self.headers = {"WWW-Authenticate": challenge}
