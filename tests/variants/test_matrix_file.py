"""The ``matrix`` of a scenario file: which variants it makes, what each of them is, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from rteval.errors import ScenarioError
from rteval.scenario import scenario_from_portable
from rteval.scenario_matrix import MOST_VARIANTS

TWO = """\
session: {voice: alloy, turn_detection: {type: server_vad, threshold: 0.5}}
matrix:
  prompt:
    a: {session.instructions: {file: a.md}}
    b: {session: {instructions: B, voice: echo}}
  model:
    mini: {target.deployment: m}
    full: {target.deployment: f, session.turn_detection.threshold: 0.9}
"""


def found(scenario):
    return {variant.name: variant.scenario for variant in scenario.variants}


def test_every_combination_is_a_variant_with_a_name_and_its_axes(load, tmp_path):
    (tmp_path / "a.md").write_text("A")
    scenario = load(TWO)
    assert [(variant.name, dict(variant.axes)) for variant in scenario.variants] == [
        (f"prompt={prompt},model={model}", {"prompt": prompt, "model": model})
        for prompt in ("a", "b")
        for model in ("mini", "full")
    ]


def test_a_variant_is_the_scenario_with_its_values_laid_over_it(load, tmp_path):
    (tmp_path / "a.md").write_text("A")
    of = found(load(TWO))
    a, b = of["prompt=a,model=mini"], of["prompt=b,model=full"]
    assert (a.session.instructions, a.session.voice, a.target.deployment) == ("A", "alloy", "m")
    assert (b.session.instructions, b.session.voice, b.target.deployment) == ("B", "echo", "f")
    assert (a.session.turn_detection.threshold, b.session.turn_detection.threshold) == (0.5, 0.9)
    assert (a.load, a.dataset, a.matrix) == (b.load, b.dataset, {})
    assert a.hash != b.hash


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("", [None], id="no matrix"),
        pytest.param("matrix: {}", [None], id="an empty one"),
        pytest.param("matrix:", [None], id="null"),
        pytest.param("matrix: {p: {a: {session.voice: x}, b: {session.voice: y}}}", ["a", "b"], id="one axis"),
        pytest.param("matrix: {p: {now: {}, then: {session.voice: y}}}", ["now", "then"], id="the scenario as it is"),
        pytest.param("matrix: {p: {now: , then: {session.voice: y}}}", ["now", "then"], id="the same, as null"),
        pytest.param("matrix: {p: {2024: {session.voice: x}}, q: {x: }}", ["p=2024,q=x"], id="one of each"),
    ],
)
def test_names(load, text, names):
    assert [variant.name for variant in load(text).variants] == names


def test_null_takes_a_key_of_the_scenario_back(load):
    of = found(load("session: {voice: alloy}\nmatrix: {p: {with: {}, without: {session.voice: null}}}"))
    assert (of["with"].session.voice, of["without"].session.voice) == ("alloy", None)


def test_the_command_line_can_add_take_and_change_variants(load):
    text = "matrix: {p: {a: {session.voice: x}, b: {session.voice: y}}}"
    assert found(load(text, sets=("matrix={}",))).keys() == {None}
    assert found(load(text, sets=("matrix.p.b.session.voice=z",)))["a"].session.voice == "x"
    assert found(load(text, sets=("matrix.p={c: {session.voice: z}}",)))["c"].session.voice == "z"
    assert found(load("", sets=("matrix.p.c.session.voice=z",)))["c"].session.voice == "z"


def test_what_the_scenario_leaves_open_may_be_settled_by_its_variants(load):
    text = "target: {provider: custom}\nmatrix: {at: {here: {target.url: 'ws://127.0.0.1:1/a'}}}"
    assert found(load(text))["here"].target.url == "ws://127.0.0.1:1/a"


WRONG = [
    ("matrix: 5", ["v.yaml:1: matrix: expected a mapping of axes"], "no mapping"),
    ("matrix: {p: {}}", ["v.yaml:1: matrix.p: expected a mapping of options"], "an axis without options"),
    ("matrix: {p: [a]}", ["v.yaml:1: matrix.p: expected a mapping of options"], "options in a list"),
    ("matrix: {p: {a: x}}", ["v.yaml:1: matrix.p.a: expected a mapping of keys"], "an option that is a word"),
    ("matrix: {p q: {a: }}", ["matrix.p q: an axis is named in letters"], "name of an axis"),
    ("matrix: {p: {a/b: }}", ["matrix.p.a/b: an option is named in letters"], "name of an option"),
    ("matrix: {p: {a: {session: }}}", ["matrix.p.a.session: name a key of session, e.g. session.voice"], "a section"),
    ("matrix: {p: {a: {session..voice: x}}}", ["matrix.p.a.session..voice: is no path of a key"], "no path"),
    (
        "matrix: {p: {a: {session.voice: x, session: {voice: y}}}}",
        ["matrix.p.a.session.voice: is given twice"],
        "twice",
    ),
    (
        "matrix:\n  p:\n    a:\n      session.voce: x",
        ["v.yaml:4: matrix.p.a.session.voce: unknown key; did you mean voice?"],
        "a wrong key",
    ),
    (
        "matrix:\n  p:\n    a: {session.turn_detection: {type: server_vad,\n        threshold: 2}}",
        ["v.yaml:4: matrix.p.a.session.turn_detection.threshold: must be at most 1, got 2"],
        "a wrong value",
    ),
    (
        "matrix:\n  p:\n    a:\n      session.instructions: {file: none.md}",
        ["v.yaml:4: matrix.p.a.session.instructions.file: none.md: cannot be read"],
        "no file",
    ),
    (
        "matrix:\n  p:\n    a:\n      session.voice: ${NOT_SET}",
        ["v.yaml:4: matrix.p.a.session.voice: the environment variable NOT_SET is not set"],
        "no variable",
    ),
    (
        "matrix:\n  p:\n    a: {target.dialect: preview}\n    b: {target.dialect: ga}\nsession:\n  temperature: 0.7",
        [
            "v.yaml:6: session.temperature: dialect ga has no temperature; remove it, or use dialect: "
            "preview (variant b)"
        ],
        "a contradiction of one variant",
    ),
    (
        "matrix: {p: {a: {session.voice: x}, b: {session.voice: y}}}\nsession:\n  temperature: 0.7",
        ["v.yaml:3: session.temperature: dialect ga has no temperature; remove it, or use dialect: preview"],
        "a contradiction of all, told once",
    ),
    (
        "session: {turn_detection: none}\nmatrix:\n  p:\n    a: {session.turn_detection.threshold: 0.5}\n    b: {}",
        ["v.yaml:4: matrix.p.a.session.turn_detection.threshold: belongs to server_vad, not to none"],
        "a contradiction that an option makes",
    ),
    (
        "load: {pacing: fast}\nsession: {turn_detection: none}\nmatrix:\n  p:\n    a: {}\n    "
        "b: {session.turn_detection: semantic_vad}",
        ["v.yaml:1: load.pacing: fast needs manual commit, and session.turn_detection is semantic_vad"],
        "a contradiction with the load",
    ),
    (
        "matrix:\n  p:\n    a: {session.voice: x}\n  q:\n    b: {session.voice: y}",
        ["v.yaml:5: matrix.q.b.session.voice: is also set by matrix.p.a.session.voice, of another axis"],
        "two axes, one key",
    ),
    (
        "matrix: {p: {a: {session.turn_detection: none}}, q: {b: {session.turn_detection.threshold: 1}}}",
        ["matrix.q.b.session.turn_detection.threshold: is also set by matrix.p.a.session.turn_detection"],
        "two axes, one within the other",
    ),
    (
        "matrix: {p: {a: {session.instructions: x, session.instructions.file: y}}}",
        ["matrix.p.a.session.instructions.file: is given twice"],
        "text and file",
    ),
    ("matrix: {tag: {a: }}", ["matrix.tag: every run is divided by that already"], "an axis that is none of its own"),
    ("session: {voice: 5}\nmatrix: {p: {a: }}", ["v.yaml:1: session.voice: expected text"], "the scenario itself"),
    (
        "matrix: {p: {a: {target.headers: {api-key: abc}}}}",
        ["matrix.p.a.target.headers.api-key: the value of this header is a secret"],
        "a secret in a header",
    ),
    (
        "matrix: {p: {a: {target.endpoint: 'https://h/?api-key=abc'}}}",
        ["matrix.p.a.target.endpoint: its query carries a secret (api-key)"],
        "a secret in an address",
    ),
]


@pytest.mark.parametrize(("text", "sentences"), [pytest.param(*case[:2], id=case[2]) for case in WRONG])
def test_what_is_wrong_is_told_once_with_file_line_path_and_cure(load, text, sentences):
    with pytest.raises(ScenarioError) as caught:
        load(text)
    lines = str(caught.value).split("\n  ")
    lines = lines if len(lines) == 1 else lines[1:]
    assert len(lines) == len(sentences), lines
    for line, sentence in zip(lines, sentences, strict=True):
        assert sentence in line


@pytest.mark.parametrize(
    ("key", "why"),
    [
        pytest.param("dataset.limit", "the same items", id="items"),
        pytest.param("load.sessions", "under one load", id="load"),
        pytest.param("limits.wall_s", "under one load", id="limits"),
        pytest.param("gates", "measured by the same rules", id="gates"),
        pytest.param("scoring.normalizer", "measured by the same rules", id="scoring"),
        pytest.param("slo.ttfa_ms", "measured by the same rules", id="slo"),
        pytest.param("target.provider", "use provider: custom with target.url", id="provider"),
        pytest.param("target.behaviour", "one embedded server", id="behaviour"),
        pytest.param("target.behaviour.ttfa_ms", "one embedded server", id="part of the behaviour"),
        pytest.param("report.audio", "belongs to the run as a whole", id="report"),
        pytest.param("labels.a", "belongs to the run as a whole", id="labels"),
        pytest.param("matrix.x", "belongs to the run as a whole", id="a matrix in a matrix"),
    ],
)
def test_a_key_that_no_variant_can_set_is_refused_with_the_reason(load, key, why):
    with pytest.raises(ScenarioError, match=rf"v\.yaml:1: matrix\.p\.a\.{key}: no variant can set it: ") as caught:
        load(f"matrix: {{p: {{a: {{{key}: 1}}}}}}")
    assert why in str(caught.value)


def test_variants_are_bounded(load):
    def axes(options):
        names = (f"o{number}: {{session.voice: v{number}}}" for number in range(options))
        return f"matrix: {{p: {{{', '.join(names)}}}, q: {{x: , y: }}}}"

    assert len(load(axes(MOST_VARIANTS // 2)).variants) == MOST_VARIANTS
    with pytest.raises(ScenarioError, match=f"matrix: makes {MOST_VARIANTS + 2} variants; {MOST_VARIANTS} is the most"):
        load(axes(MOST_VARIANTS // 2 + 1))


# ---- secrets, hashes, and the way to a worker ----

SECRET = "hunter22-hunter22"
GUARDED = (
    "matrix:\n  p:\n    a: {target.headers: {x-tenant: west, authorization: 'Bearer ${T}'}}\n"
    "    b: {target.proxy: 'http://u:${T}@proxy:1', session.raw: {note: '${MY_TOKEN}'}}"
)


def test_no_secret_of_a_variant_is_stored_or_travels(load):
    scenario = load(GUARDED, T=SECRET, MY_TOKEN=SECRET)
    for data in (scenario.resolved(), scenario.portable({}), *(each.resolved() for each in found(scenario).values())):
        assert SECRET not in json.dumps(data)
    assert scenario.resolved()["matrix"]["p"]["a"]["target.headers"]["x-tenant"] == "***"


@pytest.mark.parametrize(
    ("text", "env"),
    [
        pytest.param(TWO, {}, id="prompts and models"),
        pytest.param(GUARDED, {"T": SECRET, "MY_TOKEN": SECRET}, id="secrets"),
        pytest.param("matrix: {p: {a: {session.instructions: '$1 $${HOME}'}}}", {}, id="dollars"),
    ],
)
def test_what_arrives_at_a_worker_has_the_same_variants(load, tmp_path, text, env):
    (tmp_path / "a.md").write_text("A")
    sent = load(text, **env)
    arrived = scenario_from_portable(json.loads(json.dumps(sent.portable({}))), env=env)
    assert [(each.name, each.axes) for each in arrived.variants] == [(each.name, each.axes) for each in sent.variants]
    for there, here in zip(arrived.variants, sent.variants, strict=True):
        settled = {"target": {"auth", "behaviour"}, "gates": True}
        assert there.scenario.model_dump(exclude=settled) == here.scenario.model_dump(exclude=settled)


def test_each_variant_travels_with_what_the_environment_settles_for_it(load):
    text = (
        "target: {provider: azure, deployment: d}\n"
        "matrix: {dialect: {new: {target.dialect: ga}, old: {target.dialect: preview}}}"
    )
    here = {"AZURE_OPENAI_ENDPOINT": "https://here.openai.azure.com", "OPENAI_API_VERSION": "2025-04-01-preview"}
    there = {"AZURE_OPENAI_ENDPOINT": "https://there.openai.azure.com", "OPENAI_API_VERSION": "2024-10-01-preview"}
    of = found(scenario_from_portable(json.loads(json.dumps(load(text).portable(here))), env=there))
    assert (of["old"].target.api_version, of["new"].target.api_version) == ("2025-04-01-preview", None)
    assert {each.target.endpoint for each in of.values()} == {"https://here.openai.azure.com"}


def test_a_scenario_keeps_its_hash_wherever_it_lies_and_changes_it_with_its_variants(load):
    text = "matrix: {p: {a: {session.voice: x}, b: {session.voice: y}}}"
    assert load(text).hash == load(text).hash
    assert load(text).hash != load(text.replace("y}", "z}")).hash
    assert load("matrix: {}").hash == load("").hash
