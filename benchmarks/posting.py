"""The part of the page that is about delivery: many destinations, a dead one, the spool."""
# ruff: noqa: E501 - prose, with its typography

from __future__ import annotations

import statistics

from benchmarks.delivery import ATTRIBUTES, MESSAGES
from benchmarks.fanout import LEFT, SPANS, Fanout, Role
from benchmarks.markdown import rows

_TITLES = {
    "same": "spancast, {count}, one view",
    "mixed": "spancast, {count}, 4 views (gen_ai, OpenInference, Langfuse, private)",
    "private": "spancast, {count}, private",
    "sampled": "spancast, {count}, a tenth sampled",
    "one_dead": "spancast, {count}, one of them dead",
    "memory": "spancast, {count}, `spool: memory`",
    "sdk": "the SDK's way: {count} by a batch processor each",
}


def section(fanout: Fanout | None, image: str) -> str:
    """Return the section, with ``image`` in it."""
    if fanout is None:
        return "## Delivery\n\nNot measured in this run."
    failed = "".join(f"\n- failed: {what}: {why}" for what, why in fanout.failures.items())
    return f"""## Delivery

A span with {len(ATTRIBUTES)} attributes and {len(MESSAGES) + 300} bytes of messages is made and delivered, gzip, OTLP over HTTP; CPU time is that of the whole process, all threads, making the span included,
at full speed of the core as above.
Medians of {fanout.rounds} processes of {SPANS:,} spans, forward and backward through the list in turn; every span was counted at every receiver. The ratio is the median of those within one round, in brackets the least and the greatest.

{image}

{_roles(fanout)}
{failed}

### The spool

{_spool(fanout)}

{_recovery(fanout)}

### A destination that is down

{_outage(fanout)}"""


def _roles(fanout: Fanout) -> str:
    lines: list[list[str]] = []
    for role in fanout.taken:
        costs, against = fanout.costs(role), fanout.ratio(role, ("same", 1))
        rates = [one["spans_per_s"] for one in fanout.taken[role] if one]
        told = f"{against[0]:.2f} ({against[1]:.2f}…{against[2]:.2f})" if against else "failed"
        cells = (
            [f"{statistics.median(costs):.0f}", told, f"{statistics.median(rates):,.0f}"] if costs else ["failed"] * 3
        )
        lines.append([_title(role), *cells])
    return rows(["", "µs CPU per span", "against one destination", "spans/s, end to end"], lines)


def _title(role: Role) -> str:
    name, count = role
    return _TITLES[name].format(count=f"{count} destination{'s' * (count > 1)}")


def _spool(fanout: Fanout) -> str:
    lines = [
        [name, *(f"{statistics.median(one[kind] for one in taken):,.0f}" for kind in ("put_per_s", "taken_per_s"))]
        for name, taken in fanout.spool.items()
    ]
    return rows(["by itself, 512 records at a time", "records/s put", "records/s claimed and acknowledged"], lines)


def _recovery(fanout: Fanout) -> str:
    if not fanout.recovery:
        return f"Recovery from {LEFT:,} records was not measured."
    found = fanout.recovery[0]
    opened, first, whole = (
        statistics.median(one[kind] for one in fanout.recovery) for kind in ("opened_ms", "first_ms", "all_s")
    )
    outcome = "all arrived" if all(one["whole"] for one in fanout.recovery) else "NOT all were delivered in time"
    return (
        f"A process killed with `kill -9` leaves {found['records']:,} records on disk, some of them leased. The next process has the spool open after {opened:.0f} ms (`configure()` as a whole), "
        f"the receiver has the first of them after {first:,.0f} ms and the last after {whole:.1f} s: {outcome}."
    )


def _outage(fanout: Fanout) -> str:
    found = fanout.outage
    if not found:
        return "Not measured in this run."
    parts = len(found["grown_mib"])
    head = ["spans made", *(f"{found['spans'] * (part + 1) // parts:,}" for part in range(parts))]
    grown = rows(head, [["memory grown, MiB", *(f"{one:.0f}" for one in found["grown_mib"])]])
    dropped = ", ".join(f"`{name}` {count:,}" for name, count in found["counts"].items() if name.startswith("dropped"))
    return f"""{found["spans"]:,} spans, as fast as they can be made ({found["taken_per_s"]:,.0f} spans/s), while the only destination refuses connections. The process may be killed and not one that is on disk is lost;
what is over the bounds of the queue and of the spool (512 MiB, the oldest first) is dropped and counted: {dropped or "nothing"}. On disk: {found["disk_mib"]:.0f} MiB. Peak memory of the process: {found["peak_mib"]:.0f} MiB.

{grown}"""
