"""Puts numbered records and says so after each put, until it is killed.

``crash_writer.py PATH FIRST [--records N] [--die] [--deliver]``: record n has n in its body. A line
"put N" on stdout means that everything before N was put. ``--deliver`` serves route "b" after each
put, a line "got N N ..." being the delivery. ``--die`` ends with SIGKILL after N records.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from pathlib import Path

from spancast.export.spool.disk import SqliteSpool
from spancast.model.span_record import SpanRecord


def record(number: int, size: int) -> SpanRecord:
    return SpanRecord(
        trace_id=(number // 3 + 1).to_bytes(16, "big"),
        span_id=(number + 1).to_bytes(8, "big"),
        end_ns=number + 1,
        is_genai=True,
        resource=b"resource",
        scope=b"scope",
        body=number.to_bytes(8, "big") + os.urandom(size),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("--records", type=int, default=1 << 40)
    parser.add_argument("--die", action="store_true")
    parser.add_argument("--deliver", action="store_true")
    options = parser.parse_args()
    spool = SqliteSpool(options.path, max_bytes=8 << 30, max_age_s=1e9)
    spool.register(["a", "b"])
    number = options.first
    chance = random.Random(number)
    while number < options.first + options.records:
        count = chance.randint(1, 200)
        spool.put(
            [
                record(number + index, chance.choice((10, 2000, 20_000)) if not options.die else 2040)
                for index in range(count)
            ],
            {},
        )
        number += count
        os.write(1, b"put %d\n" % number)
        lease = spool.lease("b", max_records=150, max_bytes=1 << 20, now_s=time.time()) if options.deliver else None
        if lease is not None:
            os.write(
                1, b"got %s\n" % b" ".join(b"%d" % int.from_bytes(e.record.body[:8], "big") for e in lease.entries)
            )
            spool.ack(lease)
    if options.die:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
