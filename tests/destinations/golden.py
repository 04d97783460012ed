"""Golden files: what a destination is sent for the support conversation. ``SPANCAST_GOLDEN=write`` writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden" / "destinations"


def assert_golden(name: str, content: Any) -> None:
    """Assert that ``content`` equals the golden file ``name``."""
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SPANCAST_GOLDEN") == "write":
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(path.read_text()) == content
