"""Draw one growth curve from JSON on stdin. Runs in the environment that has matplotlib."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "spancast"
from matplotlib import pyplot as plt  # noqa: E402 - the backend must be set first

COLOURS = {"bare": "tab:gray", "SDK": "tab:gray", "spancast": "tab:blue"}
STYLES = {"process": "--", "4 encodings": ":"}


def main() -> None:
    job = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(7, 4))
    for label, points in job["lines"].items():
        name, _, kind = label.partition(", ")
        numbers, median, low, high = zip(*points, strict=True)
        axes.plot(numbers, median, "o", color=COLOURS[name], linestyle=STYLES.get(kind, "-"), label=label)
        axes.fill_between(numbers, low, high, color=COLOURS[name], alpha=0.15)
    axes.set_xlabel(job["axis"])
    axes.set_ylabel(job["unit"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(job["path"], metadata={"Date": None})


if __name__ == "__main__":
    main()
