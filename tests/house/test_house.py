"""Rules of this repository: file names, public names, import cost, generated tables."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from docs import generate
from hypothesis import HealthCheck, settings
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.util import BoundedList

import spancast
from spancast.config.settings import Settings, SettingsKeywords, SpoolKeywords, SpoolSettings
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.registry import DESTINATIONS
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.export.spool import disk, log
from spancast.instrumentation.registry import CLIENTS, find_patches
from spancast.model import semconv
from spancast.statistics import DestinationStats, Stats

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OLDEST = PROJECT["project"]["requires-python"].removeprefix(">=")
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time"}
SOURCES = sorted((ROOT / "src" / "spancast").rglob("*.py"))
SDK_PRIVATE = {
    name
    for kind in (sdk_trace.ReadableSpan, sdk_trace.Tracer, sdk_trace.TracerProvider, BoundedAttributes, BoundedList)
    for name in (*vars(kind), *kind.__init__.__code__.co_names)
    if name.startswith("_") and not name.startswith("__")
} - {"_lock"}
WORDS = r"told|tells|tell|whoever|nobody|somebody|lest|anew|likewise|must never|those who"
"""Words of a former private language (CONTRIBUTING.md, Style); "tell whether" is "return whether"."""
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "types"}


def test_public_names_are_those_of_all() -> None:
    modules = {path.stem for path in (ROOT / "src" / "spancast").iterdir()}
    public = {name for name in dir(spancast) if not name.startswith("_")} - modules
    assert public == set(spancast.__all__)
    assert all(hasattr(spancast, name) for name in spancast.__all__)


def location(source: Path, line: int | None = None) -> str:
    """Return a path and line that editors can follow."""
    name = str(source.relative_to(ROOT))
    return name if line is None else f"{name}:{line}"


def test_file_names_are_not_generic() -> None:
    generic = [location(source) for source in SOURCES if source.stem in FORBIDDEN]
    assert not generic, generic


def test_broad_except_only_in_allowed_files() -> None:
    """``except BaseException`` is not counted: it re-raises."""
    allowed = {"diagnostics.py", "exception_capture.py"}
    broad = [
        location(source, node.lineno)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ExceptHandler)
        if node.type is None
        or (isinstance(node.type, ast.Name) and node.type.id == "Exception" and source.name not in allowed)
    ]
    assert not broad, broad


def test_attribute_names_are_only_in_their_tables() -> None:
    tables = {"semconv.py", "client_metrics.py", "providers.py"}
    # Names of other instrumentations, to recognise and remove them.
    foreign = {"privacy.py", "filter_fields.py", "record_builder.py"}
    written = [
        f"{location(source)}: {name}"
        for source in SOURCES
        if source.name not in tables | foreign and "conventions" not in source.parts
        for name in re.findall(r"\"((?:gen_ai|openai)\.(?!resources)[a-z_.]+)\"", source.read_text())
        if name != "gen_ai.operation.name"
    ]
    assert not written, written


def opentelemetry_names(tree: ast.Module) -> set[str]:
    """Return the names by which a module knows what it imports from OpenTelemetry."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or "opentelemetry" for alias in node.names if alias.name.startswith("opentelemetry")}
    return names


def private_uses(source: Path) -> list[str]:
    """Return where ``source`` imports, reads or writes a private name of OpenTelemetry or of the SDK's spans."""
    tree = ast.parse(source.read_text())
    ours = opentelemetry_names(tree)

    def is_private(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
            return any(part.startswith("_") for part in (*str(node.module).split("."), *(a.name for a in node.names)))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            return of in ours or (node.attr in SDK_PRIVATE and of not in {"self", "cls"})
        if isinstance(node, ast.Call):
            # By name, as ``getattr`` takes it.
            return any(isinstance(given, ast.Constant) and given.value in SDK_PRIVATE for given in node.args)
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        return text.startswith("opentelemetry.") and "._" in text

    return [location(source, getattr(node, "lineno", None)) for node in ast.walk(tree) if is_private(node)]


def test_one_file_reads_private_names_of_opentelemetry() -> None:
    """Private state of the SDK changes without notice; where it is needed there is a fallback."""
    private = ROOT / "src" / "spancast" / "otel_private.py"
    assert private_uses(private), "the rule finds nothing any more"
    found = [use for source in SOURCES if source != private for use in private_uses(source)]
    assert not found, found


def test_import_loads_no_sdk_and_no_transport() -> None:
    code = "import json, sys, spancast; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {
        "openai",
        "anthropic",
        "openrouter",
        "grpc",
        "requests",
        "httpx",
        "httpx2",
        "urllib3",
        "google",
        "rich",
    }


def test_import_starts_no_thread_and_patches_nothing() -> None:
    code = (
        "import threading, openai; before = openai.OpenAI.__init__, vars(openai._base_client.SyncAPIClient)['request'];"
        "import spancast; assert threading.active_count() == 1;"
        "assert before == (openai.OpenAI.__init__, vars(openai._base_client.SyncAPIClient)['request'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_places_of_products_are_of_known_facts_and_types() -> None:
    # Another name would be left out of the table.
    assert set(generate.PRODUCTS) <= set(DESTINATIONS)
    assert set(OTLP_VENDORS) <= set(generate.PRODUCTS)
    given = {fact for product in generate.PRODUCTS.values() for fact in product.shown}
    assert given == set(generate.SEEN)


def test_documentation_tables_are_generated() -> None:
    for page in generate.pages():
        assert generate.rewritten(page.read_text()) == page.read_text(), f"{page.name}: run `make docs`"


def test_keywords_of_configure_are_the_fields_of_settings() -> None:
    assert set(SettingsKeywords.__annotations__) == set(Settings.model_fields)
    assert set(SpoolKeywords.__annotations__) == set(SpoolSettings.model_fields)


def test_registry_rows_resolve() -> None:
    for name in CLIENTS:
        assert set(find_patches(name).dialects) <= set(DIALECTS)
    assert all(find_dialect(name).name == name for name in DIALECTS)


def test_instrumentation_modules_have_a_registry_row() -> None:
    shared = {
        "__init__",
        "registry",
        "patching",
        "stainless",
        "speakeasy",
        "stream_recorder",
        "sse",
        "sse_events",
        "http_body",
        "call_keys",
        "function",
        "google_interactions",
        "function_code",
        "results",
        "wrap_call",
        "raw_http",
        "openai_websockets",
    }
    leaves = {path.stem for path in (ROOT / "src/spancast/instrumentation").glob("*.py")} - shared
    assert leaves == {spec.patches.partition(":")[0].rpartition(".")[2] for spec in CLIENTS.values()}
    assert {path.name for path in (ROOT / "tests/recordings").iterdir()} >= set(DIALECTS)


def test_convention_attribute_names_are_in_the_registry() -> None:
    registry = json.loads((ROOT / "tests/recordings/schemas/gen_ai_registry.json").read_text())
    ours = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    for name in ours:
        if name.startswith(("gen_ai.", "openai.", "aws.bedrock.", "mcp.")):
            assert name in registry, name


def test_readme_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        assert set(re.findall(r"`make ([a-z]+)", (ROOT / page).read_text())) <= targets


def make_commands(text: str) -> set[str]:
    """Return the commands ``make …`` of a script or workflow; variables as one reads them."""
    return {
        " ".join(line.split()) for line in re.findall(r"(?:^|step |- |run: |=1 )(make [^#\n]+)", text, re.MULTILINE)
    }


def test_workflow_runs_the_commands_of_ci() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    workflow = yaml.safe_load(text)
    assert {job for job, content in workflow["jobs"].items() if content["steps"]} == set(workflow["jobs"])
    ci = make_commands((ROOT / ".ci" / "run").read_text())
    assert len(ci) >= 7, "the rule finds nothing any more"
    assert make_commands(text) >= ci
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {command.split()[1] for command in make_commands(text)} <= targets
    assert f'python: ["{OLDEST}", ' in text


def test_issue_templates_ask_for_the_report() -> None:
    templates = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(templates) == 2
    for template in templates:
        fields = {field.get("id"): field for field in yaml.safe_load(template.read_text())["body"]}
        assert "`spancast report`" in fields["report"]["attributes"]["description"]
        assert fields["report"]["validations"]["required"] is True


def test_oldest_python_version_is_consistent() -> None:
    project, oldest = PROJECT, OLDEST
    named = [
        one.removeprefix("Programming Language :: Python :: ")
        for one in project["project"]["classifiers"]
        if one.startswith("Programming Language :: Python :: 3.")
    ]
    makefile = (ROOT / "Makefile").read_text()
    assert named[0] == oldest
    assert project["tool"]["pyright"]["pythonVersion"] == oldest
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"< ({oldest.replace('.', ', ')})" in makefile
    assert f"needs Python {oldest} or newer" in makefile
    assert f"VERSIONS ?= {oldest} " in makefile
    assert f"needs Python {oldest} or newer" in (ROOT / "README.md").read_text()


def test_assertions_read_no_clock() -> None:
    """A busy machine must not fail a test: hypothesis has no deadline, and no assertion reads a clock."""
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for statement in ast.walk(ast.parse(path.read_text())):
            if isinstance(statement, ast.Assert):
                named = {node.attr for node in ast.walk(statement.test) if isinstance(node, ast.Attribute)}
                assert not named & CLOCKS, location(path, statement.lineno)


def test_counters_are_fields_of_stats() -> None:
    known = {field.name for kind in (Stats, DestinationStats) for field in dataclasses.fields(kind)}
    names = {
        (location(source, node.lineno), node.args[0].value)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "counters.add"
        and isinstance(node.args[0], ast.Constant)
    }
    assert names, "the rule finds nothing any more"
    assert not {name for name in names if name[1] not in known}


def test_counters_and_reasons_of_drops_are_documented() -> None:
    for kind, known in ((Stats, generate.COUNTERS), (DestinationStats, generate.DESTINATION_COUNTERS)):
        assert {field.name for field in dataclasses.fields(kind)} == set(known)
    lines = [
        line for source in SOURCES for line in source.read_text().splitlines() if "_drop(" in line or "reason=" in line
    ]
    reasons = {
        name for line in lines if "dropped" in line or "_drop(" in line for name in re.findall(r'"([a-z_]+)"', line)
    }
    reasons -= {"dropped"}
    assert {"queue_full", "shutdown"} <= reasons, "the rule finds nothing any more"
    reasons |= {*log._DROPS, *disk._LOSS_MESSAGES}
    assert reasons <= set(generate.DROP_REASONS)


def test_prose_and_names_are_plain() -> None:
    pages = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    files = [*SOURCES, *pages, *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.py")]
    word = re.compile(rf"(?<![a-z])({WORDS})(?![a-z])", re.IGNORECASE)
    found = [
        f"{location(path, number)}: {match[1]}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := word.search(line))
    ]
    names = [
        f"{location(path)}: {name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
        if word.search(name)
    ]
    assert not found + names, found + names
