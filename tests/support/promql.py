"""What an expression of PromQL asks for: which metrics, by which labels."""

from dataclasses import dataclass

import promql_parser as promql


@dataclass(frozen=True)
class Selector:
    """One metric with the labels that it is chosen by."""

    metric: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Query:
    """An expression, taken apart."""

    selectors: tuple[Selector, ...]
    other_labels: frozenset[str]
    """Those that are aggregated by, or matched on."""


def read(expression: str) -> Query:
    """Raises ValueError for what is not PromQL."""
    selectors: list[Selector] = []
    labels: set[str] = set()

    def visit(part: promql.Expr) -> None:
        if isinstance(part, promql.VectorSelector):
            matchers = {matcher.name: matcher.value for matcher in part.matchers.matchers}
            selectors.append(Selector(part.name or "", matchers))
        elif isinstance(part, promql.AggregateExpr) and part.modifier is not None:
            labels.update(part.modifier.labels)
        elif isinstance(part, promql.BinaryExpr) and part.modifier is not None and part.modifier.matching is not None:
            labels.update(part.modifier.matching.labels)

    promql.walk(promql.parse(expression), visit)
    return Query(tuple(selectors), frozenset(labels))
