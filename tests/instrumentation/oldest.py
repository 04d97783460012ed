"""Print the oldest SDK of each row as requirements; see ``make versions``."""

from __future__ import annotations

from spancast.instrumentation.registry import CLIENTS

if __name__ == "__main__":
    # aiobotocore must be of the time of boto3.
    print(*(f"{spec.distribution}=={spec.min_version}" for spec in CLIENTS.values()), "aiobotocore")
