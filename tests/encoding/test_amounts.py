from __future__ import annotations

import pytest

from spancast.encoding import amounts


@pytest.mark.parametrize(
    ("sent", "received", "text"),
    [
        (None, None, ""),
        (25, None, "25 → 0"),
        (9_999, 10_000, "9,999 → 10.0k"),
        (999_949, 999_950, "999.9k → 1.0M"),
    ],
)
def test_tokens(sent: int | None, received: int | None, text: str) -> None:
    assert amounts.tokens(sent, received) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(None, ""), (0.0, "$0"), (1e-9, "<$0.000001"), (0.00189, "$0.001890"), (1234.5, "$1,234.50")],
)
def test_cost(usd: float | None, text: str) -> None:
    assert amounts.cost(usd) == text
    assert amounts.cost(usd, is_estimated=True) == (f"~{text}" if text else "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0124, "12 ms"),
        (3.071, "3.07 s"),
        (9.996, "10.0 s"),
        (99.96, "1m40s"),
        (125, "2m05s"),
        (3599.6, "60m00s"),
        (7320, "2h02m"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert amounts.duration(round(seconds * 1_000_000_000)) == text
