"""The section of the page about delivery: many destinations, a dead destination, the spool."""
# ruff: noqa: E501 - prose

from __future__ import annotations

import statistics

from benchmarks.delivery import ATTRIBUTES, MESSAGES
from benchmarks.fanout import RECOVERED_RECORDS, SPANS, Fanout, Role
from benchmarks.markdown import rows

_TITLES = {
    "same": "spancast, {count}, one encoding",
    "mixed": "spancast, {count}, 4 encodings (gen_ai, OpenInference, Langfuse, privacy mode)",
    "private": "spancast, {count}, privacy mode",
    "sampled": "spancast, {count}, sampling rate 0.1",
    "one_dead": "spancast, {count}, one of them down",
    "burst": "spancast, {count}, one encoding, as fast as possible on every core",
    "memory": "spancast, {count}, `spool: memory`",
    "sdk": "SDK, {count}, one batch processor each",
}


def section(fanout: Fanout | None, image: str) -> str:
    """Return the section with ``image``."""
    if fanout is None:
        return "## Delivery\n\nNot measured in this run."
    failed = "".join(f"\n- failed: {name}: {reason}" for name, reason in fanout.failures.items())
    return f"""## Delivery

A span with {len(ATTRIBUTES)} attributes and {len(MESSAGES) + 300} bytes of messages is created and delivered with OTLP over HTTP, gzip. The CPU time is that of the whole process, all threads, including the creation of the span,
at full speed of the core.
Medians of {fanout.rounds} processes of {SPANS:,} spans; the order of the list alternates by round. Every span was counted at every receiver. The ratio is the median of the ratios within one round, in brackets the minimum and maximum.

{image}

{_roles(fanout)}
{failed}

### The spool

{_spool(fanout)}

{_recovery(fanout)}

### Outage of a destination

{_outage(fanout)}"""


def _roles(fanout: Fanout) -> str:
    lines: list[list[str]] = []
    for role in fanout.runs:
        costs, found = fanout.costs(role), fanout.ratio(role, ("same", 1))
        ratio = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "failed"
        cells = (
            [f"{statistics.median(costs):.0f}", ratio, f"{fanout.rate(role) or 0:,.0f}"] if costs else ["failed"] * 3
        )
        lines.append([_title(role), *cells])
    return rows(["", "µs CPU per span", "ratio to one destination", "spans/s, end to end"], lines)


def _title(role: Role) -> str:
    name, count = role
    return _TITLES[name].format(count=f"{count} destination{'s' * (count > 1)}")


def _spool(fanout: Fanout) -> str:
    lines = [
        [name, *(f"{statistics.median(one[kind] for one in runs):,.0f}" for kind in ("appended_per_s", "leased_per_s"))]
        for name, runs in fanout.spool.items()
    ]
    return rows(
        ["spool alone, batches of 512 records", "records/s appended", "records/s leased and acknowledged"], lines
    )


def _recovery(fanout: Fanout) -> str:
    if not fanout.recovery:
        return f"Recovery from {RECOVERED_RECORDS:,} records was not measured."
    found = fanout.recovery[0]
    opened, first, last = (
        statistics.median(one[kind] for one in fanout.recovery) for kind in ("opened_ms", "first_ms", "all_s")
    )
    outcome = "all arrived" if all(one["complete"] for one in fanout.recovery) else "not all were delivered in time"
    return (
        f"A process killed with `kill -9` leaves {found['records']:,} records on disk, some of them leased. `configure()` of the next process takes {opened:.0f} ms, which includes opening the spool. "
        f"The first of the records arrives after {first:,.0f} ms and the last after {last:.1f} s: {outcome}."
    )


def _outage(fanout: Fanout) -> str:
    found = fanout.outage
    if not found:
        return "Not measured in this run."
    parts = len(found["grown_mib"])
    head = ["spans made", *(f"{found['spans'] * (part + 1) // parts:,}" for part in range(parts))]
    table = rows(head, [["memory growth, MiB", *(f"{one:.0f}" for one in found["grown_mib"])]])
    dropped = ", ".join(f"`{name}` {count:,}" for name, count in found["drops"].items())
    return f"""{found["spans"]:,} spans, created as fast as possible ({found["spans_per_s"]:,.0f} spans/s), while the only destination refuses connections. Spans on disk survive a kill of the process.
Spans beyond the limits of the span queue and of the spool (512 MiB, oldest first) are dropped and counted: {dropped or "none"}. On disk: {found["disk_mib"]:.0f} MiB. Peak memory of the process: {found["peak_mib"]:.0f} MiB.

{table}"""
