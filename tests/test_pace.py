"""Measured widths and times: bounded, cheap where there is nothing to choose, and in proportion to the work."""

import pytest

from pipeline.numerics import pace
from pipeline.numerics.layout import LANES
from pipeline.numerics.pace import Pace, best_width, seconds_per_update

NETWORK = Pace((3, 4, 5, 1), 4, False, "portable")


def test_narrow_groups_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "seconds_per_update", None)
    assert best_width(NETWORK, most=40) == 40
    assert best_width(NETWORK, most=1500) == 1024


def test_the_width_of_least_time_per_lane_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {1024: 3.0, 2048: 4.0, 4096: 9.0}
    monkeypatch.setattr(pace, "seconds_per_update", lambda _, lanes: times[lanes])
    assert best_width(NETWORK, most=5000) == 2048


def test_wide_networks_are_not_tried_at_widths_that_outgrow_any_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "seconds_per_update", None)
    assert best_width(Pace((64, 32, 10), 1797, True, "portable"), 10_000) == 27
    assert best_width(Pace((64, 3200, 10), 1797, True, "portable"), 10_000) == LANES


def test_a_measured_update_takes_longer_for_more_networks() -> None:
    alone, many = (seconds_per_update(NETWORK, lanes) for lanes in (8, 1024))
    assert 0 < alone < many < 1024 * alone
