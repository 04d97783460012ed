"""Images of the growth curves, drawn in an environment that has matplotlib."""

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
"""Label -> points of x, median, minimum, maximum."""
_TIMEOUT_S = 120
COMPARED = ("bare", "spancast")


def draw(curves: Mapping[str, Results], fanout: Fanout | None) -> list[Path]:
    """Write the images and return the paths of those that could be drawn."""
    images = {name: (_of_curve(points), "µs per call above the uninstrumented call") for name, points in curves.items()}
    if fanout is not None:
        images["destinations"] = (_of_fanout(fanout), "µs CPU per span, whole process")
    python = python_of("plots") if images else None
    if python is None:
        return []
    IMAGES.mkdir(exist_ok=True)
    paths: list[Path] = []
    for name, (lines, unit) in images.items():
        path = IMAGES / f"{name}.svg"
        job = json.dumps({"path": str(path), "axis": name, "unit": unit, "lines": lines})
        try:
            subprocess.run(
                [python, ROOT / "benchmarks" / "plot.py"], input=job.encode(), check=True, timeout=_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            print(f"cannot draw {path}: {error}", file=sys.stderr)
        else:
            paths.append(path)
    return paths


def _of_curve(points: Results) -> Lines:
    lines: Lines = {}
    for point, by_candidate in points.items():
        for name in COMPARED:
            for kind in ("thread", "process"):
                median = by_candidate[name].median(kind)
                if median is not None:
                    values = [float(point.partition("=")[2]), median, *by_candidate[name].spread(kind)]
                    lines.setdefault(f"{name}, {kind}", []).append(values)
    return lines


def _of_fanout(fanout: Fanout) -> Lines:
    lines: Lines = {}
    labels = {"same": "spancast, one encoding", "mixed": "spancast, 4 encodings", "sdk": "SDK, batch processors"}
    for role, count in fanout.runs:
        costs = fanout.costs((role, count))
        if role in labels and costs:
            lines.setdefault(labels[role], []).append([count, statistics.median(costs), min(costs), max(costs)])
    return lines
