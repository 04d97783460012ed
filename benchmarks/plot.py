"""Draw one growth curve; runs in the environment that has matplotlib. Reads JSON from stdin."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "spancast"
from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen

COLOURS = {"bare": "tab:gray", "SDK": "tab:gray", "spancast": "tab:blue"}
STYLES = {"process": "--", "4 views": ":"}


def main() -> None:
    told = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(7, 4))
    for label, points in told["lines"].items():
        name, _, kind = label.partition(", ")
        numbers, middle, low, high = zip(*points, strict=True)
        axes.plot(numbers, middle, "o", color=COLOURS[name], linestyle=STYLES.get(kind, "-"), label=label)
        axes.fill_between(numbers, low, high, color=COLOURS[name], alpha=0.15)
    axes.set_xlabel(told["axis"])
    axes.set_ylabel(told["unit"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(told["path"], metadata={"Date": None})


if __name__ == "__main__":
    main()
