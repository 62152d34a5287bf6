"""How long and how often everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Durations in seconds."""

    rounds: int = 3
    """Of each measurement that is compared with another; medians are shown."""
    sweeps: int = 1
    """Rounds of the sweep."""
    seconds: float = 5.0
    """Of each round of taking, and of the sweep."""
    probe: float = 6.0
    """Of each load on the whole pipeline."""
    sustained: float = 60.0
    """Of the largest load that is kept up with."""
    stored: int = 5_000_000
    """The most events that the cost is measured on top of."""
