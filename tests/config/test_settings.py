"""Settings: precedence of keywords, environment and file; all errors at once, with paths and without secrets."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from spancast.config import settings
from spancast.config.env_vars import find
from spancast.config.settings import Settings, load
from spancast.config.yaml_loader import parse_yaml
from spancast.destinations.field_types import read_duration, read_size, redacted_url
from spancast.destinations.registry import DESTINATIONS
from spancast.errors import ConfigError

CANARY = "canary-7f3a"
EXAMPLE = """
service_name: support-bot
spool: {path: ~/.local/state/spancast, max_bytes: 512MiB, max_age: 7d}
destinations:
  jaeger:   {type: otlp, endpoint: http://localhost:4317, spans: all}
  langfuse: {type: langfuse, public_key: "${env:LANGFUSE_PUBLIC_KEY}", secret_key: "${env:LANGFUSE_SECRET_KEY}", sampling_rate: 0.25}
  audit:    {type: s3, bucket: traces, endpoint: http://localhost:9000, privacy_mode: true}
  costly:
    type: webhook
    url: https://example.com/hook
    headers: {X-Team: search}
    filter_rules: {enabled: true, groups: [{logic: and, rules: [{field: total_cost, operator: gt, value: 0.05}]}]}
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANCAST_CONFIG", raising=False)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spancast.yaml"
    path.write_text(text)
    return path


def field_errors(**given: Any) -> dict[str, str]:
    """Load ``given`` and return the error text of each path."""
    with pytest.raises(ConfigError) as caught:
        load(None, given)
    lines = str(caught.value).splitlines()
    lines = lines[1:] if "errors in" in lines[0] else lines
    return dict(line.strip().split(": ", 1) for line in lines)


def destination_errors(**fields: Any) -> dict[str, str]:
    """Load one Langfuse destination with ``fields`` and return the error text of each field."""
    entry = {"type": "langfuse", "public_key": "pk", "secret_key": "sk", **fields}
    return {
        path.removeprefix("destinations.a."): text for path, text in field_errors(destinations={"a": entry}).items()
    }


def test_load_readme_example_gives_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", CANARY)
    read = load(written(tmp_path, EXAMPLE))
    assert read.service_name == "support-bot"
    assert (read.spool.max_bytes, read.spool.max_age) == (512 * 1024**2, 7 * 86_400)
    assert read.spool.keep_delivered == 7 * 86_400
    assert read.spool.path == Path.home() / ".local/state/spancast"
    assert [destination.type for destination in read.destinations.values()] == ["otlp", "langfuse", "s3", "webhook"]
    assert read.destinations["langfuse"].sampling_rate == 0.25
    assert read.destinations["audit"].privacy_mode
    rules = read.destinations["costly"].filter_rules
    assert rules is not None
    assert rules.groups[0].rules[0].value == 0.05
    assert CANARY not in repr(read) + str(read) + read.model_dump_json()


def test_load_keywords_override_environment_overrides_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "service_name: file\nstrict: true\nforward_trace_keys: never\ndefault_trace: {env: file}")
    monkeypatch.setenv("SPANCAST_SERVICE_NAME", "variable")
    monkeypatch.setenv("SPANCAST_FORWARD_TRACE_KEYS", "always")
    monkeypatch.setenv("SPANCAST_DEFAULT_TRACE", "{env: variable}")
    read = load(path, {"service_name": "keyword", "group_idle_timeout": None})
    assert (read.service_name, read.forward_trace_keys, read.strict, read.default_trace) == (
        "keyword",
        "always",
        True,
        {"env": "variable"},
    )
    assert read.group_idle_timeout == 5.0


@pytest.mark.parametrize(("given", "seconds"), [("500ms", 0.5), ("2m", 120.0), (0.01, 0.01)])
def test_group_idle_timeout_is_a_duration(given: str | float, seconds: float) -> None:
    assert load(None, {"group_idle_timeout": given}).group_idle_timeout == seconds


def test_load_destinations_variable_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANCAST_DESTINATIONS", "{jaeger: {type: jaeger}}")
    monkeypatch.setenv("SPANCAST_SPOOL", "memory")
    read = load()
    assert read.destinations["jaeger"].type == "jaeger"
    assert read.spool.memory


def test_load_config_variable_names_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANCAST_CONFIG", str(written(tmp_path, "service_name: named")))
    assert load(find()).service_name == "named"
    assert find() == tmp_path / "spancast.yaml"


def test_load_empty_config_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANCAST_CONFIG", "")
    read = load(find())
    monkeypatch.delenv("SPANCAST_CONFIG")
    assert read == load(find())


def test_load_reads_the_argument_then_the_variable_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find() is None
    written(tmp_path, "service_name: here")
    assert find() == Path("spancast.yaml")
    assert load(find()).service_name == "here"
    for name in ("variable", "argument"):
        (tmp_path / f"{name}.yaml").write_text(f"service_name: {name}")
    monkeypatch.setenv("SPANCAST_CONFIG", "variable.yaml")
    assert load(find()).service_name == "variable"
    assert load(Path("argument.yaml")).service_name == "argument"


def test_summary_names_the_file_and_the_enabled_destinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "destinations: {a: {type: console}, b: {type: console, enabled: false}}")
    read = load(file)
    assert settings.summary(read, settings.in_effect(read), file) == f"spancast: {file} is used; traces go to a"
    assert not settings.summary(read, settings.in_effect(read)), "the program names both"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@h:4318")
    assert settings.summary(load(), settings.in_effect(load())) == "spancast: traces go to otlp (OTEL_* variables)"
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not settings.summary(load(), settings.in_effect(load()))


def test_capture_content_standard_and_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.CAPTURE_CONTENT_VARIABLE, "false")
    assert not load().capture_content
    monkeypatch.setenv(settings.CAPTURE_CONTENT_VARIABLE, "SPAN_ONLY")
    assert load().capture_content
    monkeypatch.setenv("SPANCAST_CAPTURE_CONTENT", "false")
    assert not load().capture_content


def test_load_misspelled_variable_warns(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SPANCAST_SERVICENAME", "x")
    load()
    assert "unknown variable SPANCAST_SERVICENAME; did you mean SPANCAST_SERVICE_NAME?" in caplog.text


class TestSubstitution:
    def test_reference_anywhere_in_string_is_substituted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WHO", "me")
        text = "default_trace: {a: '${env:WHO}-${env:NOBODY:-none}', b: '${env:NOBODY:-}', c: ['$$5', 'a$b', '${env:WHO:-x}']}"
        assert load(written(tmp_path, text)).default_trace == {"a": "me-none", "b": "", "c": ["$5", "a$b", "me"]}

    def test_escaped_reference_is_kept(self, tmp_path: Path) -> None:
        assert load(written(tmp_path, "default_trace: {a: '$${env:WHO}'}")).default_trace == {"a": "${env:WHO}"}

    def test_substituted_value_is_not_substituted_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "a$$b${env:X}")
        assert load(written(tmp_path, "default_trace: {a: '${env:SECRET}'}")).default_trace == {"a": "a$$b${env:X}"}

    def test_substituted_numbers_and_booleans_are_converted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RATE", "0.5")
        text = "destinations: {j: {type: jaeger, sampling_rate: '${env:RATE}', enabled: '${env:ON:-false}', max_span_bytes: '${env:SIZE:-1MiB}'}}"
        jaeger = load(written(tmp_path, text)).destinations["j"]
        assert (jaeger.sampling_rate, jaeger.enabled, jaeger.max_span_bytes) == (0.5, False, 1024**2)

    def test_empty_variable_does_not_use_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMPTY", "")
        assert load(written(tmp_path, "default_trace: {a: '${env:EMPTY:-default}'}")).default_trace == {"a": ""}

    def test_unset_variable_error_names_variable_and_path(self, tmp_path: Path) -> None:
        text = "destinations: {l: {type: langfuse, public_key: '${env:NOT_SET}', secret_key: '${file:/x}', sampling_rate: 7}}"
        path = written(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value).splitlines() == [
            "3 errors in the configuration:",
            f"  destinations.l.public_key: the environment variable NOT_SET is not set, and ${{env:NOT_SET}} has no default [{path}]",
            f"  destinations.l.secret_key: ${{file:/x}} is not a reference; write ${{env:NAME}} or ${{env:NAME:-default}} [{path}]",
            f"  destinations.l.sampling_rate: must be a number from 0.0001 to 1 (given: int 7) [{path}]",
        ]

    def test_unset_variable_in_unused_field_is_ignored(self, tmp_path: Path) -> None:
        assert load(written(tmp_path, "service_name: '${env:NOT_SET}'"), {"service_name": "x"}).service_name == "x"

    def test_keyword_value_keeps_double_dollar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WHO", "me")
        given = {"a": "${env:WHO}", "b": "pa$$word", "c": "$${env:WHO}", "d": "${date}"}
        assert load(None, {"default_trace": given}).default_trace == {
            "a": "me",
            "b": "pa$$word",
            "c": "${env:WHO}",
            "d": "${date}",
        }


class TestFile:
    def test_missing_file_raises(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read \(No such file"):
            load(tmp_path / "nowhere.yaml")

    def test_missing_file_of_the_variable_names_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPANCAST_CONFIG", "nowhere.yaml")
        with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\) \[SPANCAST_CONFIG\]"):
            load(find())

    def test_empty_file_gives_defaults(self, tmp_path: Path) -> None:
        assert load(written(tmp_path, "# nothing yet\n")) == load()

    def test_byte_order_mark_and_anchors_are_read(self, tmp_path: Path) -> None:
        text = "\ufeffx-auth: &auth {public_key: pk, secret_key: sk}\ndestinations: {l: {type: langfuse, <<: *auth}}"
        assert load(written(tmp_path, text)).destinations["l"].type == "langfuse"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1, 2]", r"must be a mapping of settings \(given: list\)"),
            (f"a: b: {CANARY}", r"is not YAML: mapping values are not allowed here, line 1, column 5"),
            (f"key: '{CANARY}", "is not YAML: found unexpected end of stream"),
            ("strict: true\nstrict: false", "duplicate key 'strict', line 2, column 1"),
            ("destinations: {a: {type: jaeger}, a: {type: jaeger}}", "duplicate key 'a'"),
            ("a: \x00", "is not YAML"),
            ("? [1]\n: 2", "is not YAML: found unhashable key"),
        ],
    )
    def test_invalid_yaml_raises_with_position(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            load(written(tmp_path, text))
        assert CANARY not in str(caught.value)

    def test_binary_file_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "spancast.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            load(path)


class TestErrors:
    def test_all_errors_are_listed_with_paths(self) -> None:
        found = field_errors(
            servce_name="x",
            group_idle_timeout=0,
            spool={"max_age": "7 parsecs"},
            destinations={
                "a": {"type": "langfuse", "publicKey": "pk", "secret_keys": CANARY, "sampling_rate": 0},
                "b": {"type": "langfues"},
                "c": {},
                "d": 3,
                "no name": {"type": "jaeger"},
            },
        )
        assert {path: text.partition(" Allowed")[0][:60] for path, text in found.items()} == {
            "group_idle_timeout": "must be a duration such as `500ms`, `30s`, `1h30m` or `7d`, ",
            "spool.max_age": "must be a duration such as `500ms`, `30s`, `1h30m` or `7d`, ",
            "destinations.a.sampling_rate": "must be a number from 0.0001 to 1 (given: int 0)",
            "destinations.a.secret_key": "is missing; it must be a text (it is a secret)",
            "destinations.a.secret_keys": "unknown field `secret_keys`; did you mean `secret_key`?",
            "destinations.b.type": "unknown type `langfues`; did you mean `langfuse`?",
            "destinations.c.type": "must be one of otlp, otel-collector, jaeger, webhook, file, ",
            "destinations.d": "must be a mapping with `type` and the fields of that type, o",
            "destinations.no name": "a destination's name has up to 64 letters, digits, `_`, `-` ",
            "servce_name": "unknown field `servce_name`; did you mean `service_name`?",
        }

    @pytest.mark.parametrize(
        ("fields", "path", "text"),
        [
            ({"sampling_rate": 2}, "sampling_rate", "must be a number from 0.0001 to 1 (given: int 2)"),
            ({"sampling_rate": "nan"}, "sampling_rate", "must be a number from 0.0001 to 1 (given: str)"),
            ({"sampling_rate": True}, "sampling_rate", "must be a number (given: bool True)"),
            ({"samplingRate": 2}, "samplingRate", "must be a number from 0.0001 to 1 (given: int 2)"),
            ({"publicKey": "x"}, "publicKey", "is given twice, as `public_key` too"),
            ({"secret_key": 12345678}, "secret_key", "must be a text (it is a secret); put it in quotes (given: int)"),
            ({"secret_key": " \n"}, "secret_key", "must not be empty (given: str)"),
            ({"secret_key": "a\nb"}, "secret_key", "must not contain control characters (given: str)"),
            ({"base_url": CANARY}, "base_url", "must be a URL that starts with http:// or https:// and names a host (given: str)"),
            ({"base_url": "http://a:b:c/"}, "base_url", "must be a URL that starts with http:// or https:// and names a host (given: str)"),
            ({"base_url": "http://a/b c"}, "base_url", "must be a URL without spaces or control characters (given: str)"),
            ({"enabled": "perhaps"}, "enabled", "must be true or false (given: str)"),
            ({"spans": "genia"}, "spans", "must be one of genai, all; did you mean `genai`? (given: str)"),
            ({"api_key_hashes": []}, "api_key_hashes", "must be a list that is not empty (given: list)"),
            ({"always_keep_cost_above": -1}, "always_keep_cost_above", "must be a number of at least 0 (given: int -1)"),
            ({"max_span_bytes": "1 MiBi"}, "max_span_bytes", "must be a size such as `512MiB` or `10MB`, or a number of bytes (given: str)"),
            ({"max_span_bytes": 0}, "max_span_bytes", "must be a size such as `512MiB` or `10MB`, or a number of bytes (given: int)"),
            ({"timeout": "soon"}, "timeout", "must be a duration such as `500ms`, `30s`, `1h30m` or `7d`, or a number of seconds (given: str)"),
            ({"headers": {"a b": "x"}}, "headers.a b", "must be the name of an HTTP header (given: str)"),
            ({"headers": {"a": "x\r\ny: z"}}, "headers.a", "must not contain control characters (given: str)"),
            ({"headers": "a=b"}, "headers", "must be a valid dictionary (given: str)"),
            ({"mask": ["a(b"]}, "mask[0].pattern", "must be a regular expression: missing ) at character 3 (given: str)"),
            ({"mask": [{"function": "nowhere:f"}]}, "mask[0].function", "must be a function, written `module:function`: ModuleNotFoundError for nowhere:f (given: str)"),
            ({"mask": [{"function": "json:nothing"}]}, "mask[0].function", "must be a function, written `module:function`: AttributeError for json:nothing (given: str)"),
            ({"mask": [{"function": "json:__doc__"}]}, "mask[0].function", "must be a function, written `module:function`: json:__doc__ is str (given: str)"),
            ({"mask": [{"function": "json.dumps"}]}, "mask[0].function", "must be a function, written `module:function` (given: str)"),
            ({"mask": [{}]}, "mask[0]", "needs either `pattern` or `function` (given: dict)"),
            ({"convention": "openinferense"}, "convention", "did you mean `openinference`? (given: str)"),
            ({"ca_file": "/nowhere"}, "ca_file", "must name a file that exists (given: str)"),
            ({"key_file": __file__}, "cert_file", "is missing; `key_file` needs it"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "modl", "operator": "exists"}]}]}}, "filter_rules.groups[0].rules[0].field", "did you mean `model`? (given: str)"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "is"}]}]}}, "filter_rules.groups[0].rules[0].operator", "must be one of equals, not_equals, contains,"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "equals"}]}]}}, "filter_rules.groups[0].rules[0].value", "is missing; `equals` needs it"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "equals", "value": []}]}]}}, "filter_rules.groups[0].rules[0].value", "must be a text or a number (given: list)"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "total_cost", "operator": "gt", "value": "much"}]}]}}, "filter_rules.groups[0].rules[0].value", "must be a number, as `gt` compares numbers"),
            ({"filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "regex", "value": "["}]}]}}, "filter_rules.groups[0].rules[0].value", "must be a regular expression: unterminated character set at character 1"),
            ({"filterRules": {"groups": [{"logic": "xor", "rules": []}]}}, "filterRules.groups[0].logic", "must be one of and, or"),
            ({"filter_rules": {"groups": [{}]}}, "filter_rules.groups[0].rules", "is missing; it must be a list"),
        ],
        ids=str,
    )  # fmt: skip
    def test_invalid_destination_field_error(self, fields: dict[str, Any], path: str, text: str) -> None:
        found = destination_errors(**fields)
        assert list(found) == [path]
        assert text in found[path]
        assert CANARY not in str(found)

    def test_error_names_file_or_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPANCAST_FORWARD_TRACE_KEYS", "maybe")
        path = written(tmp_path, "strict: perhaps")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert f"strict: must be true or false (given: str) [{path}]" in str(caught.value)
        assert (
            "forward_trace_keys: must be one of auto, always, never (given: str) [SPANCAST_FORWARD_TRACE_KEYS]"
            in str(caught.value)
        )

    def test_error_never_quotes_secret(self) -> None:
        """A secret given to any field of any type is rejected or accepted, but never quoted."""
        for kind in DESTINATIONS:
            for value in (CANARY, [CANARY], {CANARY[:0] + "a": CANARY}):
                fields = dict.fromkeys(
                    (
                        "api_key",
                        "secret_key",
                        "dsn",
                        "url",
                        "base_url",
                        "headers",
                        "mask",
                        "proxy",
                        "ca_file",
                        "host",
                        "endpoint",
                        "path",
                        "token",
                    ),
                    value,
                )
                with pytest.raises(ConfigError) as caught:
                    load(None, {"no_such_field": 1, "destinations": {"a": {"type": kind, **fields}}})
                assert CANARY not in str(caught.value)
                assert CANARY not in "".join(traceback.format_exception(caught.value))


class TestSecrets:
    def test_secrets_are_not_in_repr_or_dump(self) -> None:
        given = {
            "a": {"type": "langfuse", "public_key": CANARY, "secret_key": CANARY, "headers": {"x": CANARY}},
            "b": {"type": "sentry", "dsn": f"https://{CANARY}@o1.ingest.sentry.io/1"},
            "c": {"type": "webhook", "url": f"https://user:{CANARY}@example.com/hook?token={CANARY}"},
            "d": {"type": "jaeger", "proxy": f"http://user:{CANARY}@proxy:3128"},
        }
        read = load(None, {"destinations": given})
        assert CANARY not in repr(read) + str(read) + read.model_dump_json() + repr(read.destinations)
        assert redacted_url(f"https://u:{CANARY}@h:1/p?q={CANARY}#x") == "https://***@h:1/p?***"

    def test_secrets_are_stripped(self) -> None:
        read = load(None, {"destinations": {"a": {"type": "langfuse", "public_key": "pk\n", "secret_key": " sk"}}})
        assert read.destinations["a"].public_key.get_secret_value() == "pk"  # type: ignore[attr-defined]


def test_openrouter_names_are_accepted() -> None:
    read = load(
        None,
        {
            "destinations": {
                "a": {"type": "arize", "apiKey": "k", "spaceKey": "s", "modelId": "m", "baseUrl": "http://x", "apiKeyHashes": ["h"]},
                "b": {"type": "arize", "api_key": "k", "space_key": "s", "model_id": "m", "base_url": "http://x", "api_keys": ["h"]},
                "c": {"type": "Collector", "endpoint": "http://x:4318"},
            }
        },
    )  # fmt: skip
    assert read.destinations["a"] == read.destinations["b"]
    assert read.destinations["c"].type == "otel-collector"


def test_mask_short_forms_are_accepted() -> None:
    read = load(
        None,
        {
            "destinations": {
                "a": {
                    "type": "jaeger",
                    "mask": [
                        r"\d{16}",
                        {"function": "textwrap:dedent"},
                        str.upper,
                        {"pattern": "x", "replacement": "y"},
                    ],
                }
            }
        },
    )
    masks = read.destinations["a"].mask
    assert [mask.pattern for mask in masks] == [r"\d{16}", None, None, "x"]
    assert [mask.replacement for mask in masks] == ["[masked]", "[masked]", "[masked]", "y"]
    assert masks[1].function is not None
    assert masks[1].function(" a") == "a"
    assert masks[2].function is not None
    assert masks[2].function("a") == "A"
    assert "textwrap:dedent" in read.model_dump_json()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().strict = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 1024**2),
        ("10MB", 10**7),
        ("1.5GiB", 3 * 512 * 1024**2),
        ("2 kB", 2000),
        ("2KB", 2000),
        ("4096", 4096),
        (7, 7),
        ("1B", 1),
    ],
)
def test_read_size_valid(text: object, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["512M", "MiB", "-1", "1e3", "", "0", True, 1.5, None, [], "1MiB 2", "0.1B"])
def test_read_size_invalid_raises(text: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("1h30m", 5400), ("500ms", 0.5), ("2.5", 2.5), (3, 3), ("1w", 604_800), (0.1, 0.1)],
)
def test_read_duration_valid(text: object, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(("given", "seconds"), [(0, 0), ("0", 0), (0.0, 0), ("7d", 604_800), (30, 30)])
def test_keep_delivered_may_be_zero(given: object, seconds: float) -> None:
    assert load(given={"spool": {"keep_delivered": given}}).spool.keep_delivered == seconds


@pytest.mark.parametrize("given", [-1, "never", False, None])
def test_keep_delivered_must_be_a_duration_or_zero(given: object) -> None:
    assert "must be a duration" in field_errors(spool={"keep_delivered": given})["spool.keep_delivered"]


@pytest.mark.parametrize("text", ["7", "7x", "d", "", "-1s", True, 0, -1, float("inf"), float("nan"), None, "1h 30m"])
def test_read_duration_invalid_raises(text: object) -> None:
    if text == "7":
        assert read_duration(text) == 7
        return
    with pytest.raises(ValueError, match="must be a duration"):
        read_duration(text)


class TestSchema:
    def test_schema_accepts_example_and_rejects_errors(self) -> None:
        schema = settings.json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        check = jsonschema.Draft202012Validator(schema)
        check.validate(yaml.safe_load(EXAMPLE))
        check.validate({"spool": "memory", "x-anything": 1, "strict": "${env:STRICT:-false}"})
        for wrong in (
            {"destinations": {"a": {"type": "langfues"}}},
            {"destinations": {"a": {"type": "langfuse", "public_key": "x"}}},
            {"destinations": {"a": {"type": "jaeger", "sampling_rate": 2}}},
            {"spool": "disk"},
            {"servce_name": "x"},
        ):
            assert not check.is_valid(wrong), wrong

    def test_schema_describes_every_field(self) -> None:
        schema = json.loads(json.dumps(settings.json_schema()))
        for place, fields in [
            ("", schema["properties"]),
            *((name, part["properties"]) for name, part in schema["$defs"].items()),
        ]:
            for name, field in fields.items():
                assert field.get("description"), f"{place}.{name}"

    def test_schema_contains_every_destination_type(self) -> None:
        assert set(DESTINATIONS) <= set(settings.json_schema()["$defs"])

    def test_every_field_of_settings_is_documented(self) -> None:
        assert all(field.description for field in Settings.model_fields.values())


class TestYaml:
    def test_scalars_follow_yaml_1_2(self, tmp_path: Path) -> None:
        text = "default_trace: {a: no, b: 0123, c: 12:30:45, d: 2024-01-01, e: 1e3, f: -7, g: true, h: ~, i: 1_000, j: .5, k: 0}"
        assert load(written(tmp_path, text)).default_trace == {
            "a": "no", "b": "0123", "c": "12:30:45", "d": "2024-01-01", "e": 1000.0, "f": -7, "g": True, "h": None,
            "i": "1_000", "j": 0.5, "k": 0,
        }  # fmt: skip

    def test_recursive_value_raises(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"default_trace: contains itself \["):
            load(written(tmp_path, "default_trace: &a {b: *a}"))

    @pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd []", "!mine x", "!!int x"])
    def test_yaml_tags_raise(self, tmp_path: Path, tag: str) -> None:
        with pytest.raises(ConfigError, match="is not YAML"):
            load(written(tmp_path, f"service_name: {tag}"))

    def test_variable_is_parsed_as_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPANCAST_DESTINATIONS", f"{{a: {{secret_key: '{CANARY}}}}}")
        monkeypatch.setenv("SPANCAST_STRICT", "perhaps")
        with pytest.raises(ConfigError) as caught:
            load()
        lines = sorted(line.strip() for line in str(caught.value).splitlines()[1:])
        assert lines[0].startswith("destinations: is not YAML: found unexpected end of stream")
        assert lines[0].endswith("[SPANCAST_DESTINATIONS]")
        assert lines[1] == "strict: must be true or false (given: str) [SPANCAST_STRICT]"
        assert CANARY not in str(caught.value)


class TestNames:
    def test_camel_case_names_are_accepted(self, tmp_path: Path) -> None:
        read = load(written(tmp_path, "serviceName: a\nspool: {maxBytes: 1MiB}\nrequestStreamUsage: true"))
        assert (read.service_name, read.spool.max_bytes, read.request_stream_usage) == ("a", 1024**2, True)

    def test_same_field_twice_in_one_source_raises(self, tmp_path: Path) -> None:
        assert field_errors(serviceName="a", service_name="b") == {
            "service_name": "is given twice, as `serviceName` too"
        }
        assert load(written(tmp_path, "serviceName: a"), {"service_name": "b"}).service_name == "b"

    def test_x_prefixed_names_are_ignored(self, tmp_path: Path) -> None:
        assert load(written(tmp_path, "x-note: {a: '${env:NOT_SET}'}\nservice_name: a")).service_name == "a"

    def test_numeric_service_name_stays_string(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPANCAST_SERVICE_NAME", "1.10")
        monkeypatch.setenv("SPANCAST_STRICT", "")
        assert (load().service_name, load().strict) == ("1.10", False)


def test_invalid_reference_is_quoted_only_if_it_looks_like_a_name(tmp_path: Path) -> None:
    path = written(tmp_path, f"default_trace: {{a: '${{HOME}}', b: '{CANARY}${{{CANARY}', c: '${{{CANARY}}}'}}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    quoted = [line.strip().partition(" is not")[0] for line in str(caught.value).splitlines()[1:]]
    assert quoted == ["default_trace.a: ${HOME}", "default_trace.b: ${…}", "default_trace.c: ${…}"]
    assert CANARY not in str(caught.value)


def test_spool_short_and_long_forms() -> None:
    assert load().spool.limit_bytes == settings.DISK_BYTES
    assert load(None, {"spool": "memory"}).spool.limit_bytes == settings.MEMORY_BYTES
    assert load(None, {"spool": {"memory": True, "max_bytes": "1MiB"}}).spool.limit_bytes == 1024**2
    assert not load(None, {"spool": {"path": "/x"}}).spool.memory
    assert field_errors(spool="disk") == {"spool": f"{settings.SPOOL_RULE} (given: str)"}


def test_destination_object_is_accepted() -> None:
    config = load(None, {"destinations": {"a": {"type": "jaeger", "respect_parent_sampling": True}}}).destinations["a"]
    assert config.respect_parent_sampling
    assert load(None, {"destinations": {"b": config}}).destinations["b"] is config


def test_destinations_list_raises() -> None:
    assert field_errors(destinations=["jaeger"]) == {
        "destinations": "must be a mapping of names to destinations (given: list)"
    }


@pytest.mark.parametrize("value", [10**400, float("nan"), -1])
def test_huge_numbers_raise(value: float) -> None:
    assert "timeout" in destination_errors(timeout=value)
    rules = {"groups": [{"rules": [{"field": "total_cost", "operator": "gt", "value": value}]}]}
    if value != -1:
        assert list(destination_errors(filter_rules=rules)) == ["filter_rules.groups[0].rules[0].value"]


def test_schema_accepts_references_and_short_forms() -> None:
    check = jsonschema.Draft202012Validator(settings.json_schema())
    jaeger = {
        "type": "jaeger",
        "always_keep_cost_above": "${env:COST}",
        "spans": "${env:SPANS:-all}",
        "mask": [r"\d+", {}],
    }
    check.validate({"destinations": {"a": jaeger, "b": {"type": "collector", "endpoint": "${env:URL}"}}})
    assert not check.is_valid({"destinations": {"a": {**jaeger, "always_keep_cost_above": "much"}}})
    assert not check.is_valid({"destinations": {"a": {**jaeger, "endpont": "x"}}})


def test_importing_spancast_loads_no_yaml_and_no_destination() -> None:
    code = "import json, sys; from spancast import configure, instrument; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert "spancast.runtime" in loaded
    unwanted = {
        "yaml",
        "jsonschema",
        "spancast.config.settings",
        "spancast.destinations.config",
        "spancast.destinations.registry",
    }
    assert not loaded & unwanted


def nested_aliases(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join(lines)


def test_aliases_that_multiply_raise_with_position() -> None:
    with pytest.raises(ValueError, match=r"too many aliases, line 6, column 5"):
        parse_yaml(nested_aliases(12))
    assert len(parse_yaml(nested_aliases(3))["a2"]) == 9


def test_alias_in_itself_is_read() -> None:
    read = parse_yaml("a: &a {b: *a}")
    assert read["a"]["b"] is read["a"]
