"""Print the oldest SDK of each row as requirements; see ``make versions``."""

from __future__ import annotations

from spancast.instrumentation.registry import CLIENTS

if __name__ == "__main__":
    # The HTTP libraries are those that the SDKs need, and dspy is not installed.
    specs = [spec for spec in CLIENTS.values() if not spec.by_name_only and spec.name != "dspy"]
    # aiobotocore must be of the time of boto3.
    print(*(f"{spec.distribution}=={spec.min_version}" for spec in specs), "aiobotocore")
