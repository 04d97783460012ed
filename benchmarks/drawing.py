"""The images: one for each growth curve, drawn in an environment that has matplotlib."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.environments import ROOT, python_of
from benchmarks.fanout import Fanout
from benchmarks.measure import Results

IMAGES = ROOT / "docs" / "performance"
Lines = dict[str, list[list[float]]]
"""Label -> x, middle, least, greatest."""
_PATIENCE_S = 120
WHO = ("bare", "spancast")


def draw(curves: Mapping[str, Results], fanout: Fanout | None) -> list[Path]:
    """Write the images; returns their paths, fewer where they cannot be drawn."""
    told = {name: (_of_curve(points), "µs per call above the uninstrumented call") for name, points in curves.items()}
    if fanout is not None:
        told["destinations"] = (_of_fanout(fanout), "µs CPU per span, whole process")
    python = python_of("plots") if told else None
    if python is None:
        return []
    IMAGES.mkdir(exist_ok=True)
    paths: list[Path] = []
    for name, (lines, unit) in told.items():
        path = IMAGES / f"{name}.svg"
        order = json.dumps({"path": str(path), "axis": name, "unit": unit, "lines": lines})
        try:
            subprocess.run(
                [python, ROOT / "benchmarks" / "plot.py"], input=order.encode(), check=True, timeout=_PATIENCE_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            print(f"no image of {name}: {error}", file=sys.stderr)
        else:
            paths.append(path)
    return paths


def _of_curve(points: Results) -> Lines:
    lines: Lines = {}
    for point, of_case in points.items():
        for one in WHO:
            for kind in ("thread", "process"):
                middle = of_case[one].median(kind)
                if middle is not None:
                    place = [float(point.partition("=")[2]), middle, *of_case[one].spread(kind)]
                    lines.setdefault(f"{one}, {kind}", []).append(place)
    return lines


def _of_fanout(fanout: Fanout) -> Lines:
    lines: Lines = {}
    labels = {"same": "spancast, one view", "mixed": "spancast, 4 views", "sdk": "SDK, batch processors"}
    for role, count in fanout.taken:
        costs = fanout.costs((role, count))
        if role in labels and costs:
            lines.setdefault(labels[role], []).append([count, statistics.median(costs), min(costs), max(costs)])
    return lines
