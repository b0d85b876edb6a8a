"""What the command line lays over a scenario: ``--set`` and ``--set-file``."""

from __future__ import annotations

import pytest

from rteval.errors import UsageError


@pytest.mark.parametrize(
    ("sets", "read", "value"),
    [
        pytest.param(["load.sessions=50"], lambda s: s.load.sessions, 50, id="number"),
        pytest.param(["load.sessions=50", "load.sessions=5"], lambda s: s.load.sessions, 5, id="the last one counts"),
        pytest.param(["session.voice=no"], lambda s: s.session.voice, "no", id="words stay words"),
        pytest.param(["description=a=b"], lambda s: s.description, "a=b", id="split at the first ="),
        pytest.param([" load.sessions =2"], lambda s: s.load.sessions, 2, id="blanks round the path"),
        pytest.param(["session.tools[0].name=x"], lambda s: s.session.tools[0]["name"], "x", id="entry of a list"),
        pytest.param(["session.tools[2]={type: function, name: z}"], lambda s: len(s.session.tools), 3, id="new entry"),
        pytest.param(
            ["gates=[rtf.p50 < 1]"], lambda s: s.all_gates[:-1], ("rtf.p50 < 1",), id="a list is replaced whole"
        ),
        pytest.param(["gates[0]=rtf.p50 < 1"], lambda s: s.all_gates[0], "rtf.p50 < 1", id="gate by index"),
        pytest.param(["labels.team=voice"], lambda s: s.labels, {"team": "voice"}, id="missing keys are created"),
        pytest.param(["session.raw.a.b=1"], lambda s: s.session.raw, {"a": {"b": 1}}, id="deep in the free part"),
        pytest.param(["load={sessions: 3}"], lambda s: (s.load.sessions, s.load.ramp_s), (3, None), id="mapping"),
        pytest.param(["dataset.limit=3"], lambda s: s.dataset.limit, 3, id="into the short form of dataset"),
        pytest.param(
            ["session.turn_detection.eagerness=low"],
            lambda s: s.session.turn_detection.mapping(),
            {"type": "semantic_vad", "eagerness": "low"},
            id="setting of the short form",
        ),
        pytest.param(
            ["session.transcription.language=en"],
            lambda s: s.session.transcription.mapping(),
            {"model": "whisper-1", "language": "en"},
            id="into the short form of transcription",
        ),
        pytest.param(["session.transcription=null"], lambda s: s.session.transcription, None, id="null takes back"),
        pytest.param(["load.ramp_s="], lambda s: s.load.ramp_s, None, id="nothing takes back"),
        pytest.param(["load.sessions=${N}"], lambda s: s.load.sessions, 9, id="variable"),
        pytest.param(["description='${N}'"], lambda s: s.description, "9", id="variable in quotes"),
    ],
)
def test_a_value_is_laid_over_the_file(load, sets, read, value):
    text = (
        "load: {sessions: 1, ramp_s: 2}\n"
        "gates: [ttfa_ms.p95 < 1, error_rate < 1]\n"
        "session:\n"
        "  turn_detection: semantic_vad\n"
        "  transcription: whisper-1\n"
        "  tools: [{type: function, name: a}, {type: function, name: b}]\n"
    )
    assert read(load(text, sets=sets, N="9")) == value


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        pytest.param(["load.sessions=x"], "--set load.sessions: load.sessions: expected a whole number", id="type"),
        pytest.param(["load.sesions=1"], "--set load.sesions: load.sesions: unknown key; did you mean", id="key"),
        pytest.param(["load=[1"], "--set load: not YAML", id="no YAML"),
        pytest.param(["labels={a: 1, a: 2}"], "--set labels: labels.a: is given twice", id="duplicate"),
        pytest.param(["name=${NOT_SET}"], "--set name: name: the environment variable NOT_SET is not set", id="unset"),
        pytest.param(["limits.cost_usd=1"], "limits.cost_usd: is not available yet", id="not built"),
    ],
)
def test_what_is_wrong_in_it_is_told_as_in_a_file(problems, sets, sentence):
    assert sentence in problems(sets=sets)[0]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("load.sessions", id="no ="),
        pytest.param("=5", id="no path"),
        pytest.param("load..sessions=5", id="no key between dots"),
        pytest.param("gates[x]=5", id="index that is none"),
        pytest.param("name.first=5", id="through a text"),
        pytest.param("gates[5]=x", id="past the end of a list"),
    ],
)
def test_what_cannot_be_laid_over_is_a_wrong_command_line(load, entry):
    with pytest.raises(UsageError) as caught:
        load("name: a\ngates: []", sets=[entry])
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("--set")


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param(["dataset.path=other"], id="path"),
        pytest.param(["dataset=other"], id="short form"),
        pytest.param(["dataset={path: other}"], id="mapping"),
    ],
)
def test_a_path_that_is_typed_starts_from_the_working_directory(load, tmp_path, monkeypatch, sets):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load(sets=sets).dataset.path == str(elsewhere / "other")
    (elsewhere / "ca.pem").write_text("")
    typed = load(sets=["target={provider: simulator, ca_file: ca.pem}", "session.voice=x"])
    assert typed.target.ca_file == str(elsewhere / "ca.pem")
    assert typed.dataset.path == str(tmp_path / "data")


def test_a_file_that_is_typed_starts_from_the_working_directory(load, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "prompt.md").write_text("typed")
    (tmp_path / "prompt.md").write_text("written")
    monkeypatch.chdir(elsewhere)
    text = "session: {instructions: {file: prompt.md}}"
    assert load(text).session.instructions == "written"
    assert load(text, sets=["session.instructions={file: prompt.md}"]).session.instructions == "typed"
    assert load(text, sets=["session.instructions.file=prompt.md"]).session.instructions == "typed"


def test_set_file_takes_the_text_of_a_file_as_it_is(load, tmp_path):
    path = tmp_path / "prompt=1.md"
    path.write_text("a: b\n${NOT_SET} $$\n", encoding="utf-8")
    scenario = load(set_files=[f"session.instructions={path}"])
    assert scenario.session.instructions == "a: b\n${NOT_SET} $$\n"


def test_set_file_comes_after_set(load, tmp_path):
    path = tmp_path / "d.txt"
    path.write_text("file")
    assert load(sets=["description=set"], set_files=[f"description={path}"]).description == "file"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read: No such file"), (b"\xff", "is not UTF-8 text")],
    ids=["missing", "not text"],
)
def test_set_file_without_a_text_is_a_wrong_command_line(load, tmp_path, content, sentence):
    path = tmp_path / "x.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        load(set_files=[f"session.instructions={path}"])


def test_a_number_of_set_file_stays_text(problems, tmp_path):
    path = tmp_path / "n"
    path.write_text("5")
    assert "expected a whole number, got the text '5'" in problems(set_files=[f"load.sessions={path}"])[0]
