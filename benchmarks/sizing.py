"""``python -m benchmarks.sizing``: measure the bytes of a span on disk; write the table of docs/sizing.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
CALLS = 1000
TEXTS = {"a short question": 100, "2 kB of messages": 2_000, "20 kB of messages": 20_000}
"""Bytes of the question and of the answer together; words of a dictionary, so that they compress like text."""
PLACES = {
    "store": {"type": "store", "path": "spans.db"},
    "file": {"type": "file", "path": "spans.jsonl"},
}


def main() -> None:
    """Measure each size of call in its own process, and rewrite the table."""
    rows = [f"| {name} | {' | '.join(_measured(size))} |" for name, size in TEXTS.items()]
    head = ["| bytes on disk per call | spool | local store | file |", "|---|--:|--:|--:|"]
    text = "\n".join([*head, *rows])
    PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{text}\n{found[2]}", PAGE.read_text()))
    print(text)


def _measured(size: int) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="spancast-sizing-"))
    try:
        command = [sys.executable, __file__, str(size)]
        environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
        subprocess.run(command, check=True, cwd=folder, env=environment)
        files = [
            sum(path.stat().st_size for path in folder.rglob(pattern) if not path.name.endswith("-shm"))
            for pattern in ("spool.sqlite3*", "spans.db*", "spans.jsonl")
        ]
    finally:
        shutil.rmtree(folder)
    return [f"{number / CALLS:,.0f}" for number in files]


def _run(size: int) -> None:
    """Make ``CALLS`` calls whose question and answer have ``size`` bytes."""
    import random  # noqa: PLC0415 - only in the measured process

    import spancast  # noqa: PLC0415

    random.seed(7)
    words = ["order", "where", "the", "is", "shipped", "refund", "yesterday", "invoice", "number", "please", "and", "a"]
    words += [f"{random.randrange(10**6)}" for _ in range(200)]

    @spancast.instrument
    def complete(model: str, messages: list[dict[str, str]], temperature: float) -> dict[str, object]:  # noqa: ARG001
        answer = {"role": "assistant", "content": _text(words, size // 2)}
        usage = {"prompt_tokens": size // 8, "completion_tokens": size // 8}
        return {"id": "c-1", "model": model, "choices": [{"message": answer, "finish_reason": "stop"}], "usage": usage}

    spancast.configure(destinations=PLACES)
    for _ in range(CALLS):
        question = {"role": "user", "content": _text(words, size // 2)}
        complete("gpt-5-mini", [question], 0.2)
    report = spancast.flush(120)
    if not report:
        sys.exit(f"not delivered: {json.dumps(str(report))}")


def _text(words: list[str], size: int) -> str:
    import random  # noqa: PLC0415 - only in the measured process

    return " ".join(random.choices(words, k=size // 5))[:size]


if __name__ == "__main__":
    _run(int(sys.argv[1])) if len(sys.argv) > 1 else main()
