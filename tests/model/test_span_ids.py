"""Ids of OpenRouter's published test vectors."""

from __future__ import annotations

import pytest

from spancast.model.span_ids import span_id_of, trace_id_of


@pytest.mark.parametrize(
    ("text", "trace_id"),
    [
        ("gen-1769028024-jarGYYh8T8HnNfNLExRC", "1c555e8b67d6f2a5706b0ece50f65ab4"),
        ("gen-1769028176-9hoKxJ8TwmmjRXQnYX3w", "62ab67a157f5285e38d963e2cc1c1523"),
        ("obsprobe-trace-1788612874", "8b15b51c4f6c36711f217e68ad5c99ac"),
        ("gen-1790605442-FDh36zGvkqZaDM6tk5Rd", "55c1871d38f281c94875d6cbe969106a"),
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_trace_id_of_published_vectors(text: str, trace_id: str) -> None:
    assert f"{trace_id_of(text):032x}" == trace_id


@pytest.mark.parametrize(
    ("text", "span_id"),
    [
        ("gen-1769028024-jarGYYh8T8HnNfNLExRC", "1c555e8b67d6f2a5"),
        ("gen-1790605442-FDh36zGvkqZaDM6tk5Rd:attempt-0", "36eda181808bce0f"),
        ("gen-1790605442-FDh36zGvkqZaDM6tk5Rd:generation", "4c71927a4d4a65e9"),
        ("00f067aa0ba902b7", "00f067aa0ba902b7"),
    ],
)
def test_span_id_of_published_vectors(text: str, span_id: str) -> None:
    assert f"{span_id_of(text):016x}" == span_id


@pytest.mark.parametrize("text", ["0" * 32, "4BF92F3577B34DA6A3CE929D0E0E4736", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"])
def test_trace_id_of_text_that_is_not_32_hex_digits_is_hashed(text: str) -> None:
    assert f"{trace_id_of(text):032x}" != text
    assert trace_id_of(text) == trace_id_of(text)
