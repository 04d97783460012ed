"""An application with one destination, ``eu``. Arguments: DIRECTORY of the spool, DESTINATION as JSON, NAME, COUNT.

Makes COUNT spans called NAME and a number, prints the report of its flush, and ends.
"""

from __future__ import annotations

import json
import sys

from opentelemetry.sdk.trace import TracerProvider

import spancast


def main() -> None:
    directory, destination, name, count = sys.argv[1:]
    provider = TracerProvider()
    spancast.configure(
        tracer_provider=provider,
        spool={"path": directory},
        destinations={"eu": json.loads(destination)},
        shutdown_timeout=0.5,
    )
    tracer = provider.get_tracer("spancast")
    for number in range(int(count)):
        tracer.start_span(f"{name} {number}").end()
    print(spancast.flush(0.5))


if __name__ == "__main__":
    main()
