import gc
from collections.abc import Iterator

import pytest

from runtime.memory import YOUNG, settle_in


@pytest.fixture
def _restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("_restored")
def test_what_is_there_is_set_aside_and_what_comes_is_still_collected() -> None:
    settle_in()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == YOUNG
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
