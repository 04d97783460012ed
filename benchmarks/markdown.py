"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def rows(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table with padded columns, so that its source is readable."""
    every = [list(head), ["---", *("--:" for _ in head[1:])], *map(list, lines)]
    widths = [max(len(line[column]) for line in every) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in every
    )


def verdict(value: float | None, goal: float | None, sign: str) -> tuple[str, str]:
    """Return the cells "goal" and "met"."""
    if goal is None:
        return "", ""
    if value is None:
        return f"{sign} {goal:g}", "not measured"
    return f"{sign} {goal:g}", "yes" if (value <= goal if sign == "≤" else value >= goal) else "no"
