"""Started by Python at start-up if ``spancast run`` added this folder to PYTHONPATH."""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _run_next_sitecustomize() -> None:
    # Python imports only one sitecustomize; run the environment's own, too.
    paths = [path for path in sys.path if os.path.abspath(path or os.getcwd()) != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_next_sitecustomize()

import spancast.auto_instrumentation  # noqa: E402

spancast.auto_instrumentation.start()
