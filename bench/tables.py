"""What was measured, as rows of tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from bench.targets import TARGETS, Data

Row = Mapping[str, object]
THREE_DIGITS: Final = 100
NOTHING: Final = "-"


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, whose columns are the keys of the first."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{''.join(_rule(rows[0][name]) for name in names)}"]
    lines += [f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _rule(value: object) -> str:
    return " ---: |" if isinstance(value, int | float) else " --- |"


def cell(value: object) -> str:
    """Return a value as it is shown: three digits are enough, None is a dash."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= THREE_DIGITS else f"{value:.3g}"
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else str(value)


def targets(parts: Mapping[str, Data]) -> list[Row]:
    """Each figure that is aimed at, with what was measured."""
    rows: list[Row] = []
    for target in TARGETS:
        measured = target.measure(parts[target.part]) if target.part in parts else float("nan")
        verdict = target.verdict(measured)
        shown = cell(measured) + target.unit if verdict != "not measured" else NOTHING
        rows.append({"figure": target.what, "wanted": target.needed, "measured": shown, "verdict": verdict})
    return rows


def taking(data: Data) -> list[Row]:
    """Medians over the rounds, with the ratio to the limit."""
    rows: list[Row] = []
    for records in sorted({one["records"] for one in data["taken"]}):
        mine = [one for one in data["taken"] if one["records"] == records]
        limit = _median(mine, lambda one: one["load"]["per_second"], subject="bare")
        for name in dict.fromkeys(one["subject"] for one in mine):
            rate = _median(mine, lambda one: one["load"]["per_second"], subject=name)
            runs = [one for one in mine if one["subject"] == name]
            rows.append(
                {
                    "subject": name,
                    "records": records,
                    "requests/s": rate,
                    "records/s": rate * records,
                    "of bare": rate / limit,
                    "p50 ms": _median(runs, lambda one: one["load"]["p50"]),
                    "p99 ms": _median(runs, lambda one: one["load"]["p99"]),
                    "refused": sum(one["load"]["refused"] for one in runs),
                    "service µs": _median(runs, lambda one: one["cpu"]["service"]),
                    "broker µs": _median(runs, lambda one: one["cpu"].get("broker", 0.0)),
                    "MB": max(one["memory"] for one in runs),
                }
            )
    return rows


def _median(runs: Iterable[Data], value: Callable[[Data], float], /, **wanted: object) -> float:
    return median(value(one) for one in runs if all(one[name] == is_ for name, is_ in wanted.items()))


def storing(data: Data) -> list[Row]:
    """Medians over the rounds, beside the limit's."""
    stored = data["stored"]
    names = list(dict.fromkeys(one["case"] for one in stored))
    limit = _median(stored, lambda one: one["per_second"], case=names[0])
    return [{"case": name, **_stored([one for one in stored if one["case"] == name], limit)} for name in names]


def _stored(runs: Sequence[Data], limit: float) -> Row:
    rate = _median(runs, lambda one: one["per_second"])
    return {
        "events/s": rate,
        "of the limit": rate / limit,
        **{f"{name} µs": _median(runs, lambda one, name=name: one["cpu"].get(name, 0.0)) for name in STORERS},  # type: ignore[misc]
        "worker MB": max(one["memory"].get("worker", 0.0) for one in runs),
    }


STORERS: Final = ("worker", "database", "broker")


def pipeline(data: Data) -> list[Row]:
    """Each load of each kind."""
    rows: list[Row] = []
    for kind in data["kinds"]:
        loads = [("at rest", kind["rest"]), *((_share(kind, one), one) for one in kind["levels"])]
        loads += [("half load", kind["half"]), ("sustained", kind["sustained"])]
        rows += [_load(name, one) for name, one in loads]
    return rows


def _share(kind: Data, level: Data) -> str:
    return f"{level['offered'] / kind['saturated']['through']:.0%}"


def _load(name: str, one: Data) -> Row:
    return {
        "records": one["records"],
        "load": name,
        "events/s": one["offered"],
        "seconds": one["seconds"],
        "kept up": "yes" if one["kept_up"] else "no",
        "p50 ms": one["p50"],
        "p99 ms": one["p99"],
        "lag p50 ms": one["lag_p50"] * 1e3,
        "lag p99 ms": one["lag_p99"] * 1e3,
        **{f"{name} µs": one["cpu"].get(name, 0.0) for name in ("ingest", "broker", "worker", "database", "load")},
        "ingest MB": one["memory"]["ingest"],
        "worker MB": one["memory"]["worker"],
    }


def saturated(data: Data) -> list[Row]:
    """The closed loops, beside what the same processes do without any request."""
    return [
        {
            "records": kind["records"],
            "requests/s": kind["saturated"]["requests_per_second"],
            "events/s to the last stored": kind["saturated"]["through"],
            "p50 ms": kind["saturated"]["p50"],
            "p99 ms": kind["saturated"]["p99"],
            "answered 200": kind["saturated"]["accepted"],
            "stored": kind["saturated"]["stored"],
            "idle CPU": ", ".join(f"{name} {share:.1%}" for name, share in kind["idle"].items()),
        }
        for kind in data["kinds"]
    ]


def overload(data: Data) -> list[Row]:
    """Ten times what is kept up with."""
    return [_overload(kind["records"], kind["overload"]) for kind in data["kinds"]]


def _overload(records: int, one: Data) -> Row:
    return {
        "records": records,
        "requests/s due": one["asked"],
        "sent": one["sent"],
        "p99 ms": one["p99"],
        "shed by 503": one["shed"],
        "without Retry-After": one["without_retry_after"],
        "other answers": one["other"],
        "latency normal after s": one["latency_recovers"],
        "lag normal after s": one["lag_recovers"],
        "accepted and stored": one["level"]["accepted"],
        "ingest MB": one["level"]["memory"]["ingest"],
        "worker MB": one["level"]["memory"]["worker"],
    }


def growth(data: Data) -> list[Row]:
    """Medians over the rounds, by kind of ids and by what is stored already."""
    return _costs(data["stored"], "ids", "stored")


def customers(data: Data) -> list[Row]:
    """Medians over the rounds, by customers."""
    return _costs(data["customers"], "customers")


def _costs(runs: Sequence[Data], *by: str) -> list[Row]:
    groups: dict[tuple[object, ...], list[Data]] = {}
    for one in runs:
        groups.setdefault(tuple(one[name] for name in by), []).append(one)
    return [{**dict(zip(by, values, strict=True)), **_cost(group)} for values, group in groups.items()]


def _cost(runs: Sequence[Data]) -> Row:
    worker = _median(runs, lambda one: one["cpu"].get("worker", 0.0))
    database = _median(runs, lambda one: one["cpu"].get("database", 0.0))
    return {
        "events/s": _median(runs, lambda one: one["per_second"]),
        "worker µs": worker,
        "database µs": database,
        "both µs": worker + database,
        "worker MB": max(one["memory"].get("worker", 0.0) for one in runs),
    }


def sweep(data: Data) -> list[Row]:
    """Medians over the rounds for each value, beside the default's."""
    rows: list[Row] = []
    for setting in data["settings"]:
        runs = setting["runs"]
        own = _median(runs, lambda one: one["per_second"], value=setting["default"])
        for value in dict.fromkeys(one["value"] for one in runs):
            mine = [one for one in runs if one["value"] == value]
            latencies = [one["latency"] for one in mine if one["latency"] is not None]
            rows.append(
                {
                    "setting": f"`{setting['setting']}`",
                    "load": setting["load"],
                    "value": f"**{value:,.10g}**" if value == setting["default"] else f"{value:,.10g}",
                    "events/s": _median(mine, lambda one: one["per_second"]),
                    "of the default's": _median(mine, lambda one: one["per_second"]) / own,
                    "p99 ms": median(latencies) if latencies else None,
                    "µs": _median(mine, lambda one: one["cpu"]),
                }
            )
    return rows
