"""What a scenario file may say, and what is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from rteval.errors import ScenarioError
from rteval.formats import G711_ULAW, PCM16
from rteval.realtime.events import SessionSettings
from rteval.scenario import Scenario, load_scenario

WHOLE = """\
schema_version: 1
name: whole
description: everything
labels: {team: voice}
target:
  provider: azure
  dialect: preview
  endpoint: https://x.openai.azure.com
  deployment: d
  model: m
  url: wss://example.org/realtime
  api_version: 2025-04-01-preview
  auth: api_key
  api_key_env: MY_KEY
  auth_header: bearer
  token_scope: https://ai.azure.com/.default
  timeouts: {connect_s: 1, session_s: 2, response_s: 3, transcription_s: 4, close_s: 5.5}
  ca_file: whole.yaml
  proxy: http://proxy:3128
  headers: {x-team: voice}
  behaviour: {seed: 1}
session:
  instructions: Be brief.
  voice: alloy
  modalities: [text, audio]
  turn_detection:
    type: server_vad
    threshold: 0.4
    prefix_padding_ms: 200
    silence_duration_ms: 500
    create_response: true
    interrupt_response: false
  input_audio_format: g711_ulaw
  output_audio_format: pcm16
  transcription: {model: whisper-1, language: en, prompt: names, newer: 1}
  tools: [{type: function, name: f, parameters: {type: object}}]
  tool_choice: {type: function, name: f}
  temperature: 0.7
  max_output_tokens: inf
  raw: {anything: [1, {}]}
dataset: {path: data, ids: [a], tags: [b], limit: 3, order: shuffled, seed: 4}
conversation: {items_per_session: 2, wait_for_playback: false, think_time_s: 1.5, max_session_s: 60}
load: {sessions: 5, ramp_s: 2, warmup_s: 1, repeat: 3, pacing: realtime, frame_ms: 20, engine: asyncio}
limits:
  {wall_s: 60, turns: 10, sessions: 5, connects_per_s: 0.5, error_rate: 0.5, min_n: 10, send_lag_ms: 9, loop_lag_ms: 9}
scoring:
  normalizer: whisper_basic
  wer: false
  checks:
    polite: {contains: [please, thanks]}
    order: {regex: "[0-9]+"}
    same: {equals: yes}
    call: {tool_call: {name: f}}
  scorers: {polite: {scorer: judge, rubric: r}}
slo: {ttfa_ms: 1200}
gates: [ttfa_ms.p95 < 1200]
baseline: {run: latest, missing: skip}
report: {formats: [markdown], audio: failed, transcripts: none, ci: github}
"""


def test_every_key_of_the_format_is_read(load):
    scenario = load(WHOLE, name="whole.yaml")
    unset = set(_unset(scenario, ""))
    assert unset == {
        "target.credential",  # goes with another target.auth
        "session.turn_detection.idle_timeout_ms",
        "session.turn_detection.eagerness",
        # Other shapes of load; tests/scenario/test_load_keys.py reads them.
        "load.stages",
        "load.arrivals",
        "load.max_sessions",
        "load.duration_s",
        "matrix",  # tests/variants reads it
        "baseline.file",  # goes instead of baseline.run
        *(
            f"scoring.checks.{name}.{key}"
            for name in ("polite", "order", "same", "call")
            for key in ("contains", "regex", "equals", "tool_call")
        ),
    } - {
        "scoring.checks.polite.contains",
        "scoring.checks.order.regex",
        "scoring.checks.same.equals",
        "scoring.checks.call.tool_call",
    }
    assert scenario.scoring.checks["polite"].mapping() == {"contains": ["please", "thanks"]}
    assert scenario.scoring.checks["same"].mapping() == {"equals": "yes"}
    assert scenario.session.transcription.mapping() == {
        "model": "whisper-1",
        "language": "en",
        "prompt": "names",
        "newer": 1,
    }


def _unset(value, path):
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name not in value.model_fields_set:
                yield f"{path}{name}"
            yield from _unset(inner, f"{path}{name}.")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _unset(inner, f"{path}{name}.")


def test_defaults(load):
    scenario = load()
    assert scenario.name == "support"
    assert (scenario.target.dialect, scenario.target.auth) == ("ga", None)
    assert scenario.session.turn_detection.mapping() == {"type": "server_vad"}
    assert scenario.session.transcription is None
    assert (scenario.conversation.items_per_session, scenario.conversation.wait_for_playback) == (1, True)
    assert (scenario.conversation.think_time_s, scenario.load.repeat, scenario.load.sessions) == (0, 1, 1)
    assert (scenario.load.pacing, scenario.load.frame_ms, scenario.load.engine) == ("realtime", 100, "auto")
    assert (scenario.limits.send_lag_ms, scenario.limits.loop_lag_ms) == (20, 20)
    assert (scenario.scoring.normalizer, scenario.scoring.wer) == ("whisper_english", True)
    assert (scenario.report.audio, scenario.report.transcripts) == ("none", "full")


def test_the_settings_of_a_session_are_those_of_the_protocol(load):
    settings = SessionSettings(
        **load(
            "session: {transcription: whisper-1, input_audio_format: g711_ulaw, modalities: [text]}"
        ).session.settings()
    )
    assert settings.transcription == {"model": "whisper-1"}
    assert settings.turn_detection == {"type": "server_vad"}
    assert (settings.input_format, settings.output_format) == (G711_ULAW, PCM16)
    assert settings.modalities == ("text",)
    assert SessionSettings(**load("session: {turn_detection: none}").session.settings()).turn_detection is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("none", None, id="none"),
        pytest.param("null", None, id="null"),
        pytest.param("{type: none}", None, id="mapping none"),
        pytest.param("server_vad", {"type": "server_vad"}, id="word"),
        pytest.param(
            "{silence_duration_ms: 300}", {"type": "server_vad", "silence_duration_ms": 300}, id="type left out"
        ),
        pytest.param(
            "{type: semantic_vad, eagerness: low}", {"type": "semantic_vad", "eagerness": "low"}, id="mapping"
        ),
    ],
)
def test_turn_detection_is_a_word_or_a_mapping(load, text, expected):
    detection = load(f"session: {{turn_detection: {text}}}").session.turn_detection
    assert detection.mapping() == expected
    assert detection.on is (expected is not None)


@pytest.mark.parametrize(
    ("text", "expected"), [("none", None), ("null", None), ("m", {"model": "m"}), ("{model: m}", {"model": "m"})]
)
def test_transcription_is_a_word_or_a_mapping(load, text, expected):
    transcription = load(f"session: {{transcription: {text}}}").session.transcription
    assert (transcription and transcription.mapping()) == expected


def test_null_sections_and_keys_are_as_if_they_were_not_there(load):
    scenario = load(
        "session:\nload:\n  sessions:\n  ramp_s: 1\ngates:\nlabels: ~\n"
        "target: {provider: simulator, behaviour: {models: null}}"
    )
    assert (scenario.load.sessions, scenario.load.ramp_s, scenario.labels) == (1, 1, {})
    assert scenario.target.behaviour == {"models": None}


@pytest.mark.parametrize(
    ("gates", "all_gates"),
    [
        pytest.param("", ("error_rate <= 0.01",), id="none given"),
        pytest.param("gates: []", (), id="no gates wanted"),
        pytest.param("gates: [ttfa_ms.p95 < 1]", ("ttfa_ms.p95 < 1", "error_rate <= 0.01"), id="others"),
        pytest.param("gates: [error_rate <= 0.5]", ("error_rate <= 0.5",), id="its own"),
        pytest.param(
            "gates: [error_rate_of_mine < 1]", ("error_rate_of_mine < 1", "error_rate <= 0.01"), id="another name"
        ),
    ],
)
def test_the_gate_on_error_rate_is_there_unless_it_is_named_or_the_list_is_empty(load, gates, all_gates):
    assert load(gates).all_gates == all_gates


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "\ntarget: {provider: simulator, timeouts: {conect_s: 1}}",
            "support.yaml:2: target.timeouts.conect_s: unknown key; did you mean connect_s?",
            id="near key",
        ),
        pytest.param(
            "sesion: {}", "support.yaml:1: sesion: unknown key; did you mean session?", id="near key at the top"
        ),
        pytest.param(
            "load: {voice: x}",
            "support.yaml:1: load.voice: unknown key here; did you mean session.voice?",
            id="key of another section",
        ),
        pytest.param(
            "limits: {qqq: 1}",
            (
                "support.yaml:1: limits.qqq: unknown key; the keys here are wall_s, turns, sessions, "
                "connects_per_s, error_rate, min_n, send_lag_ms, loop_lag_ms"
            ),
            id="no near key",
        ),
        pytest.param(
            "session: {speed: 1}", "a setting without a name of its own goes through session.raw", id="unknown setting"
        ),
        pytest.param(
            "scoring: {checks: {a: {contians: x}}}",
            "support.yaml:1: scoring.checks.a.contians: unknown key; did you mean contains?",
            id="key of a check",
        ),
        pytest.param(
            "target: {provider: azur}",
            (
                "support.yaml:1: target.provider: must be one of azure, openai, simulator, custom, "
                "got the text 'azur'; did you mean azure?"
            ),
            id="near word",
        ),
        pytest.param(
            "session: {turn_detection: server-vad}",
            (
                "support.yaml:1: session.turn_detection: must be one of none, server_vad, "
                "semantic_vad, got the text 'server-vad'; did you mean server_vad?"
            ),
            id="near word in short form",
        ),
        pytest.param(
            "target: {dialect: ga}", "support.yaml:1: target.provider: is required: Who is dialled", id="required"
        ),
        pytest.param(
            "dataset:", "support.yaml: dataset: is required: The items that are run", id="required at the top"
        ),
        pytest.param(
            "session: {transcription: {language: en}}",
            "support.yaml:1: session.transcription.model: is required: Model, e.g. whisper-1",
            id="required in a mapping",
        ),
        pytest.param(
            "load: {sessions: '5'}",
            "support.yaml:1: load.sessions: expected a whole number, got the text '5'",
            id="text for a number",
        ),
        pytest.param(
            "load: {sessions: 5.5}",
            "support.yaml:1: load.sessions: expected a whole number, got 5.5",
            id="fraction for a whole number",
        ),
        pytest.param(
            "load: {sessions: true}",
            "support.yaml:1: load.sessions: expected a whole number, got true",
            id="bool for a number",
        ),
        pytest.param(
            "load: {ramp_s: [1]}", "support.yaml:1: load.ramp_s: expected a number, got a list", id="list for a number"
        ),
        pytest.param(
            "load: {ramp_s: .inf}", "support.yaml:1: load.ramp_s: must be a finite number, got inf", id="infinite"
        ),
        pytest.param(
            "scoring: {wer: 1}", "support.yaml:1: scoring.wer: expected true or false, got 1", id="number for a bool"
        ),
        pytest.param(
            "labels: {build: 7}",
            "support.yaml:1: labels.build: expected text, got 7; put it in quotes",
            id="number for text",
        ),
        pytest.param("labels: 5", "support.yaml:1: labels: expected a mapping, got 5", id="number for a mapping"),
        pytest.param("load: 5", "support.yaml:1: load: expected a mapping, got 5", id="number for a section"),
        pytest.param("gates: {}", "support.yaml:1: gates: expected a list, got a mapping", id="mapping for a list"),
        pytest.param("load: {sessions: 0}", "support.yaml:1: load.sessions: must be at least 1, got 0", id="too small"),
        pytest.param(
            "load: {frame_ms: 2000}", "support.yaml:1: load.frame_ms: must be at most 1000, got 2000", id="too large"
        ),
        pytest.param("limits: {wall_s: 0}", "support.yaml:1: limits.wall_s: must be greater than 0, got 0", id="zero"),
        pytest.param(
            "target: {provider: simulator, timeouts: {close_s: -1}}",
            "target.timeouts.close_s: must be greater than 0, got -1",
            id="negative timeout",
        ),
        pytest.param("dataset: {path: d, ids: []}", "support.yaml:1: dataset.ids: must not be empty", id="empty list"),
        pytest.param("dataset: ''", "support.yaml:1: dataset: must not be empty", id="empty text"),
        pytest.param(
            "session: {modalities: [text, audio, text]}", "session.modalities: has too many entries", id="too many"
        ),
        pytest.param("session: {modalities: [text, text]}", "session.modalities: names one kind twice", id="twice"),
        pytest.param(
            "session: {modalities: [video]}",
            "session.modalities[0]: must be one of text, audio, got the text 'video'",
            id="word in a list",
        ),
        pytest.param(
            "session: {max_output_tokens: many}",
            "session.max_output_tokens: expected a whole number from 1, or inf, got the text 'many'",
            id="neither number nor inf",
        ),
        pytest.param(
            "session: {tool_choice: sometimes}", "session.tool_choice: must be auto, none, required", id="tool choice"
        ),
        pytest.param(
            "session: {tool_choice: [f]}",
            "session.tool_choice: expected auto, none, required or a mapping that names a tool, got a list",
            id="tool choice list",
        ),
        pytest.param(
            "session: {tools: [{name: f}]}", "session.tools[0]: needs type: function (or mcp)", id="tool without type"
        ),
        pytest.param("session: {tools: [{type: function}]}", "session.tools[0]: needs a name", id="tool without name"),
        pytest.param(
            "session: {tools: [{type: function, name: f, parameters: 5}]}",
            "session.tools[0].parameters: expected a mapping",
            id="tool parameters",
        ),
        pytest.param(
            "session: {instructions: {fiel: x}}",
            "session.instructions: expected text, or {file: PATH} and nothing else",
            id="instructions",
        ),
        pytest.param(
            "session: {instructions: {file: x.md}}",
            "support.yaml:1: session.instructions.file: x.md: cannot be read: No such file or directory",
            id="instructions without file",
        ),
        pytest.param(
            "session: {turn_detection: {type: semantic_vad, threshold: 0.5}}",
            "session.turn_detection.threshold: belongs to server_vad, not to semantic_vad",
            id="setting of another detection",
        ),
        pytest.param(
            "session: {turn_detection: {type: none, create_response: true}}",
            "session.turn_detection.create_response: belongs to server_vad and semantic_vad, not to none",
            id="setting of no detection",
        ),
        pytest.param(
            "session: {turn_detection: {threshold: 2}}",
            "session.turn_detection.threshold: must be at most 1, got 2",
            id="threshold",
        ),
        pytest.param(
            "load: {pacing: fast}",
            "load.pacing: fast needs manual commit, and session.turn_detection is server_vad",
            id="fast with VAD",
        ),
        pytest.param(
            "slo: {ttfa: 1}",
            "support.yaml:1: slo.ttfa: is nothing measured of a turn; did you mean ttfa_ms?",
            id="slo name",
        ),
        pytest.param(
            "slo: {qqq: 1}",
            "slo.qqq: is nothing measured of a turn; did you mean ttfa_ms, v2v_ms",
            id="slo without a near name",
        ),
        pytest.param("slo: {ttfa_ms: -1}", "slo.ttfa_ms: must be at least 0, got -1", id="slo limit"),
        pytest.param(
            "scoring: {checks: {a: {contains: x, regex: y}}}",
            "support.yaml:1: scoring.checks.a: names exactly one of contains, regex, equals, tool_call",
            id="two checks in one",
        ),
        pytest.param(
            "scoring: {checks: {a: {regex: '['}}}",
            "scoring.checks.a: its regex cannot be read: unterminated character set",
            id="regex",
        ),
        pytest.param(
            "scoring: {checks: {a: {regex: [x, '(']}}}",
            "scoring.checks.a: its regex cannot be read: missing ), unterminated subpattern",
            id="regex in a list",
        ),
        pytest.param(
            "scoring: {checks: {a: {contains: {}}}}",
            "scoring.checks.a.contains: expected text or a list of texts, got a mapping",
            id="check of a mapping",
        ),
        pytest.param(
            "scoring: {checks: {a: {tool_call: {}}}}",
            "scoring.checks.a: its tool_call names no function ({name, arguments})",
            id="tool call without name",
        ),
        pytest.param(
            "scoring: {checks: {a-b: {equals: x}}}",
            "scoring.checks.a-b: a check is named in letters, digits and _",
            id="name of a check",
        ),
        pytest.param(
            "scoring: {checks: {regex: {equals: x}}}",
            "scoring.checks.regex: is taken by what items expect themselves",
            id="name of a check is taken",
        ),
        pytest.param(
            "name: a/b",
            "support.yaml:1: name: expected letters, digits, '.', '_' and '-' (it names a folder), got the text 'a/b'",
            id="name",
        ),
        pytest.param(
            "schema_version: 2", "support.yaml:1: schema_version: must be 1, got 2", id="version of the format"
        ),
        pytest.param(
            "target: {provider: custom}", "target.url: is required with provider: custom", id="custom without url"
        ),
        pytest.param(
            "target: {provider: openai, auth: entra}", "target.auth: OpenAI takes keys only", id="entra at OpenAI"
        ),
        pytest.param(
            "target: {provider: custom, url: 'ws://x', auth: api_key}",
            "target.api_key_env: is required with provider: custom and auth: api_key",
            id="key of nobody",
        ),
        pytest.param(
            "target: {provider: azure, api_key_env: my-key}",
            "target.api_key_env: is the name of an environment variable",
            id="variable name",
        ),
        pytest.param(
            "target: {provider: azure, proxy: 'proxy:3128'}", "target.proxy: starts with one of http://", id="proxy"
        ),
        pytest.param(
            "target: {provider: azure, headers: {'a b': x}}",
            "target.headers.a b: is no name of a header",
            id="header name",
        ),
        pytest.param(
            "target: {provider: azure, headers: {Host: x}}",
            "target.headers.Host: is set by the WebSocket handshake itself",
            id="header of the handshake",
        ),
        pytest.param(
            'target: {provider: azure, headers: {x-a: "a\\nb"}}',
            "target.headers.x-a: holds a line break or a control character",
            id="header value",
        ),
        pytest.param("target: {provider: azure, ca_file: none.pem}", "target.ca_file: there is no file", id="CA file"),
        pytest.param(
            "target: {provider: simulator, behaviour: none.yaml}",
            "target.behaviour: there is no file",
            id="behaviour file",
        ),
        pytest.param(
            "target: {provider: simulator, behaviour: [1]}",
            "target.behaviour: expected a file or a mapping, got a list",
            id="behaviour list",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_with_line_path_and_cure(problems, text, sentence):
    (problem,) = problems(text)
    assert sentence in problem


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("limits: {cost_usd: 5}", "limits.cost_usd", id="cost"),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(problems, text, key):
    (problem,) = problems(text)
    assert f"support.yaml:1: {key} " in f"{problem} ".replace(": is not", " is not")
    assert "not available yet" in problem


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "target: {provider: azure}\nsession: {temperature: 0.7}",
            "session.temperature: dialect ga has no temperature",
            id="temperature",
        ),
        pytest.param(
            "target: {provider: azure, api_version: v}",
            "target.api_version: belongs to dialect preview",
            id="api_version",
        ),
        pytest.param(
            "target: {provider: azure, dialect: preview}\nsession: {turn_detection: {idle_timeout_ms: 5000}}",
            "session.turn_detection.idle_timeout_ms: dialect preview has no idle timeout",
            id="idle timeout",
        ),
        pytest.param(
            "target: {provider: azure, dialect: preview}\nsession: {tools: [{type: mcp}]}",
            "session.tools: dialect preview has no mcp tools",
            id="mcp tools",
        ),
        pytest.param(
            "target: {provider: azure, dialect: preview}\nsession: {tool_choice: {type: mcp}}",
            "session.tool_choice: dialect preview has no mcp tools",
            id="mcp choice",
        ),
        pytest.param(
            (
                "target: {provider: azure, dialect: preview, api_version: 2024-10-01-preview}\n"
                "session: {turn_detection: semantic_vad}"
            ),
            "session.turn_detection.type: api_version 2024-10-01-preview has no semantic_vad",
            id="semantic_vad",
        ),
        pytest.param(
            (
                "target: {provider: azure, dialect: preview, api_version: 2024-10-01-preview}\n"
                "session: {turn_detection: {create_response: true}}"
            ),
            "session.turn_detection.create_response: api_version 2024-10-01-preview has no create_response",
            id="create_response",
        ),
        pytest.param(
            (
                "target: {provider: azure, dialect: preview, api_version: 2024-12-17}\n"
                "session: {turn_detection: {interrupt_response: true}}"
            ),
            "session.turn_detection.interrupt_response: api_version 2024-12-17 has no interrupt_response",
            id="interrupt_response",
        ),
    ],
)
def test_a_setting_that_the_dialect_cannot_carry_is_refused_by_name(problems, text, sentence):
    (problem,) = problems(text)
    assert sentence in problem


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "target: {provider: azure, dialect: preview}\nsession: {temperature: 0.7, turn_detection: semantic_vad}",
            id="preview",
        ),
        pytest.param(
            (
                "target: {provider: azure}\nsession: {modalities: [text, audio], turn_detection: "
                "{idle_timeout_ms: 5000}, tools: [{type: mcp}]}"
            ),
            id="ga",
        ),
        pytest.param("target: {provider: openai, api_version: v}", id="key of another provider"),
        pytest.param("load: {pacing: fast}\nsession: {turn_detection: none}", id="fast with manual commit"),
        pytest.param("session: {max_output_tokens: 100, tool_choice: required}", id="union members"),
    ],
)
def test_a_setting_that_the_dialect_carries_is_taken(load, text):
    assert load(text)


def test_the_api_version_of_the_environment_counts(problems):
    (problem,) = problems(
        "target: {provider: azure, dialect: preview}\nsession: {turn_detection: semantic_vad}",
        OPENAI_API_VERSION="2024-10-01-preview",
    )
    assert "api_version 2024-10-01-preview has no semantic_vad" in problem


def test_all_problems_are_listed_together_in_the_order_of_the_file(problems):
    found = problems(
        "load: {sessions: x, max_sessions: 0}\nname: ${NO}\nqqq: 1\nlabels: {a: 1}\nlabels: {}\n"
        "target: {provider: azure, headers: {api-key: abc}}"
    )
    assert [problem.split(": ")[1] for problem in found] == [
        "load.sessions",
        "load.max_sessions",
        "name",
        "qqq",
        "labels.a",
        "labels",
        "target.headers.api-key",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "expected a mapping of keys", id="empty"),
        pytest.param(b"- a", "expected a mapping of keys", id="list"),
        pytest.param(b"a: [", "bad.yaml:1: not YAML", id="no YAML"),
        pytest.param(b"a: \xff", "is not UTF-8 text (byte 3)", id="not UTF-8"),
        pytest.param(b"#" * 1_000_001, "is larger than 1000000 bytes", id="too large"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path, content, sentence):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, env={})
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match=r"none.yaml: cannot be read: No such file or directory") as caught:
        load_scenario(tmp_path / "none.yaml")
    assert caught.value.hint == "'rteval init' writes a scenario to start from"
    (tmp_path / "support.yaml").touch()
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "suport.yml")
    assert caught.value.hint == f"did you mean {tmp_path / 'support.yaml'}?"


def test_a_file_name_that_cannot_name_a_folder_asks_for_a_name(problems):
    (problem,) = problems(name="my tests.yaml")
    assert "name: expected letters" in problem


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('dataset: "a\\0b"', id="dataset"),
        pytest.param('session: {instructions: {file: "a\\0b"}}', id="instructions"),
        pytest.param('target: {provider: simulator, behaviour: "a\\0b"}', id="behaviour"),
    ],
)
def test_a_path_that_no_system_takes_is_refused(problems, text):
    assert len(problems(text)) == 1


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbftarget: {provider: simulator}\ndataset: d\n")
    assert load_scenario(path, env={}).name == "a"


def test_paths_start_from_the_folder_of_the_file(load, tmp_path):
    for name in ("ca.pem", "behaviour.yaml"):
        (tmp_path / name).write_text("")
    (tmp_path / "prompt.md").write_text("Be brief.", encoding="utf-8")
    scenario = load(
        "target: {provider: simulator, ca_file: ca.pem, behaviour: ./behaviour.yaml}\n"
        "dataset: ../data\nsession: {instructions: {file: prompt.md}}"
    )
    assert scenario.target.ca_file == str(tmp_path / "ca.pem")
    assert scenario.target.behaviour == str(tmp_path / "behaviour.yaml")
    assert scenario.dataset.path == str(tmp_path.parent / "data")
    assert scenario.session.instructions == "Be brief."


def test_an_absolute_path_stays(load):
    assert load("dataset: /data/x").dataset.path == "/data/x"


def test_the_text_of_a_file_is_taken_as_it_is(load, tmp_path):
    (tmp_path / "prompt.md").write_text("${HOME} costs $$5", encoding="utf-8")
    assert load("session: {instructions: {file: prompt.md}}").session.instructions == "${HOME} costs $$5"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("sessions: ${N}", {"sessions": 5}, id="number"),
        pytest.param('sessions: "${N}"', {"sessions": 5}, id="number in quotes"),
        pytest.param("sessions: ${M:-7}", {"sessions": 7}, id="default"),
        pytest.param("pacing: ${P:-realtime}", {"pacing": "realtime"}, id="word"),
    ],
)
def test_variables_become_what_their_keys_want(load, value, expected):
    assert load(f"load:\n  {value}", N="5").load.model_dump().items() >= expected.items()


def test_a_variable_that_looks_like_a_number_is_text_where_text_is_wanted(load):
    scenario = load(
        (
            "target:\n  provider: azure\n  deployment: ${D}\n  headers: {x-n: '${D}'}\ndataset: ${D}\n"
            "scoring: {wer: '${W}'}"
        ),
        D="2024",
        W="false",
    )
    assert scenario.target.deployment == "2024"
    assert scenario.target.headers == {"x-n": "2024"}
    assert Path(scenario.dataset.path).name == "2024"
    assert scenario.scoring.wer is False


def test_a_variable_that_is_no_number_is_named_without_its_value(problems):
    (problem,) = problems("load:\n  sessions: ${N}\n  ramp_s: 1", N="hunter2")
    assert problem == "support.yaml:2: load.sessions: expected a whole number, got the value of ${N}"


def test_an_unset_variable_is_named(problems):
    (problem,) = problems("target:\n  provider: azure\n  endpoint: ${NOT_SET}")
    assert problem == (
        "support.yaml:3: target.endpoint: the environment variable NOT_SET is not set; set "
        "it, or write ${NOT_SET:-default}"
    )


@pytest.mark.parametrize(
    "key",
    ["dataset: ${NOT_SET}", "target: {provider: '${NOT_SET}'}", "session: {instructions: {file: '${NOT_SET}'}}"],
)
def test_an_unset_variable_is_the_only_problem_of_its_key(problems, key):
    (problem,) = problems(key)
    assert "NOT_SET is not set" in problem


def test_a_scenario_does_not_change(load):
    with pytest.raises(ValidationError):
        load().load.sessions = 2


def test_what_is_resolved_is_a_scenario_again(load):
    scenario = load(WHOLE, name="whole.yaml")
    resolved = scenario.resolved()
    again = Scenario.model_validate(resolved)
    assert again.resolved() == resolved
    assert again.path is None
    assert again.where("gates[0]") == "gates[0]"


def test_the_hash_says_whether_the_same_was_run(load, tmp_path):
    first = load("load: {sessions: 2}").hash
    assert load("# a comment\nload: {sessions: 2}\nlabels: {a: b}\ndescription: other").hash == first
    assert load("load: {sessions: 3}").hash != first
    (tmp_path / "b.yaml").write_text("seed: 1")
    one = load("target: {provider: simulator, behaviour: b.yaml}").hash
    (tmp_path / "b.yaml").write_text("seed: 2")
    assert load("target: {provider: simulator, behaviour: b.yaml}").hash != one


def test_the_hash_does_not_depend_on_where_the_files_lie(tmp_path):
    hashes = set()
    for folder in ("a", "b/c"):
        path = tmp_path / folder / "s.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("target: {provider: simulator}\ndataset: ../data\n")
        hashes.add(load_scenario(path, env={}).hash)
    assert len(hashes) == 1


def test_a_place_is_found_for_every_key(load, tmp_path):
    scenario = load("load:\n  sessions: 1\ngates:\n  - ttfa_ms.p95 < 1\n  - error_rate < 1")
    assert scenario.where("gates[1]") == f"{tmp_path}/support.yaml:5: gates[1]"
    assert scenario.where("load.frame_ms") == f"{tmp_path}/support.yaml:1: load.frame_ms"
    assert scenario.where("report.audio") == f"{tmp_path}/support.yaml: report.audio"


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that cannot be read")
def test_a_behaviour_that_cannot_be_read_is_refused(problems):
    (problem,) = problems("target: {provider: simulator, behaviour: /proc/self/mem}")
    assert "support.yaml:1: target.behaviour: cannot be read: " in problem
