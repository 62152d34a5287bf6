"""Which spans are recorded; only loaded by a process that traces."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes


def following_links(sampler: Sampler) -> Sampler:
    """Let a sampler that goes by a span's parent go by its links, too; another one is left as it is."""
    return FollowingLinks(sampler) if isinstance(sampler, ParentBased) else sampler


class FollowingLinks(Sampler):
    """Records what has no parent and links to something recorded: else a sampled trace would end at the queue."""

    def __init__(self, others: Sampler) -> None:
        """`others` decides about all else."""
        self._others = others

    def should_sample(  # noqa: PLR0917 - the library's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span that is to begin."""
        is_root = not get_current_span(parent_context).get_span_context().is_valid
        if is_root and any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._others.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return its name, with that of the other."""
        return f"FollowingLinks{{{self._others.get_description()}}}"
