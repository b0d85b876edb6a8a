from __future__ import annotations

import os
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rteval.corpus import load_dataset
from rteval.errors import DatasetError
from rteval.formats import FORMATS, PCM16


def problems(path):
    with pytest.raises(DatasetError) as error:
        load_dataset(path)
    assert error.value.exit_code == 2
    return [problem.removeprefix(f"{path}/") for problem in error.value.problems]


# -- what is wrong, told at once -----------------------------------------------------------------------------------

AUDIO = {"file_name": "a.wav"}
TEXT = {"text": "Hello."}

ONE_PROBLEM = [
    # the item's kind
    ({}, "has neither file_name nor text; name an audio file or write a prompt"),
    (AUDIO | TEXT, "has both file_name and text; text is a prompt sent instead of audio, the words of a recording"),
    (AUDIO | {"instructions": "Hi."}, "has both file_name and instructions; instructions is a prompt sent instead"),
    (TEXT | {"channel": "left"}, "channel belongs to audio, and this is a text prompt; remove channel"),
    (TEXT | {"start_s": 1}, "start_s belongs to audio, and this is a text prompt; remove start_s"),
    # types
    ({"file_name": 7}, "file_name is the number 7; write it as text in quotes"),
    ({"file_name": ""}, "file_name is empty; write something or leave it out"),
    ({"file_name": "a\u0000.wav"}, "file_name 'a\\x00.wav' holds control characters; write one plain line"),
    ({"text": ["x"]}, "text is a list; write it as text in quotes"),
    ({"text": " "}, "text is empty; write a prompt or leave it out"),
    (AUDIO | {"transcription": 7}, "transcription is the number 7; write it as text in quotes"),
    (AUDIO | {"id": True}, "id is true; write it as text in quotes"),
    (AUDIO | {"id": "a\nb"}, "id 'a\\nb' holds control characters; write one plain line"),
    (AUDIO | {"tags": 3}, 'tags is the number 3; write a list of words, like ["billing"]'),
    (AUDIO | {"tags": ["a", 3]}, 'tags is a list; write a list of words, like ["billing"]'),
    (AUDIO | {"language": {}}, "language is an empty object; write it as text in quotes"),
    (AUDIO | {"conversation_id": 4}, "conversation_id is the number 4; write it as text in quotes"),
    (AUDIO | {"start_s": "1"}, "start_s is the text '1'; write a number"),
    (AUDIO | {"start_s": False}, "start_s is false; write a number"),
    (AUDIO | {"start_s": -1}, "start_s is -1; write a number of 0 or more"),
    (AUDIO | {"end_s": 0}, "end_s is 0; write a number above 0"),
    ('{"file_name": "a.wav", "end_s": 1e999}', "end_s is inf; write a number of 0 or more"),
    (AUDIO | {"speech_end_ms": []}, "speech_end_ms is an empty list; write a number"),
    (AUDIO | {"channel": "links"}, "channel is 'links'; write left, right, mix or a number from 0"),
    (AUDIO | {"channel": -1}, "channel is -1; write left, right, mix or a number from 0"),
    (AUDIO | {"channel": True}, "channel is True; write left, right, mix or a number from 0"),
    ('{"text": "\\ud800"}', "holds text that is not valid Unicode; mend the \\u escapes of this line"),
    # expectations
    (TEXT | {"expect": "x"}, "expect is the text 'x'; write an object with some of answer, contains, regex, equals"),
    (TEXT | {"expect": {}}, "expect is an empty object; write an object with some of answer, contains, regex, equals"),
    (TEXT | {"expect": {"contain": "x"}}, "expect has the unknown key 'contain'; did you mean 'contains'?"),
    (TEXT | {"expect": {"xyz": "x"}}, "expect has the unknown key 'xyz'; known are answer, contains, regex, equals"),
    (TEXT | {"expect": {"answer": 1}}, "expect answer is the number 1; write it as text in quotes"),
    (TEXT | {"expect": {"contains": ["a", ""]}}, "expect contains is a list; write a text or a list of texts"),
    (TEXT | {"expect": {"contains": []}}, "expect contains is an empty list; write a text or a list of texts"),
    (TEXT | {"expect": {"equals": None}}, "expect equals is null; write it as text in quotes"),
    (TEXT | {"expect": {"regex": 5}}, "expect regex is the number 5; write a text or a list of texts"),
    (TEXT | {"expect": {"regex": ["a", "("]}}, "expect regex '(' is no regular expression (missing ), unterminated"),
    (TEXT | {"expect": {"tool_call": " "}}, "expect tool_call names no tool; write the name of a tool, or"),
    (TEXT | {"expect": {"tool_call": {"name": ""}}}, "expect tool_call names no tool; write the name of a tool, or"),
    (TEXT | {"expect": {"tool_call": {"name": "f", "args": 1}}}, "expect tool_call has other keys than name and"),
    (TEXT | {"expect": {"tool_call": {"name": "f", "arguments": []}}}, "expect tool_call has other keys than name and"),
    # the line itself
    ('{"text": ', "is not JSON (Expecting value at column 10); write one JSON object a line"),
    ("[1]", "is a list and not an object; write one JSON object a line"),
    ("null", "is null and not an object; write one JSON object a line"),
    ('{"text": "a", "text": "b"}', "is not usable JSON (key 'text' occurs twice); write one JSON object a line"),
    ('{"text": "a", "x": NaN}', "is not usable JSON (NaN is no JSON number); write one JSON object a line"),
    ("[" * 100_000, "is not usable JSON ("),
    # the path
    ({"file_name": "b.wav"}, "b.wav does not exist; did you mean a.wav?"),
    ({"file_name": "recording.wav"}, "recording.wav does not exist; add the file or remove the line"),
    ({"file_name": "no/c.wav"}, "no/c.wav does not exist; add the file or remove the line"),
    ({"file_name": "."}, ". is not a file; "),
    ({"file_name": "../outside.wav"}, "../outside.wav is a path that leads out of the dataset's folder; copy the file"),
    ({"file_name": "link.wav"}, "link.wav is a link that leads out of the dataset's folder; copy the file into the"),
    ({"file_name": "ring.wav"}, "ring.wav"),
    ({"file_name": "/etc/hostname"}, "/etc/hostname is an absolute path; write it relative to the dataset's folder"),
    ({"file_name": "C:\\a.wav"}, "C:\\a.wav is an absolute path; write it relative to the dataset's folder"),
    ({"file_name": "x" * 300}, " is no usable path ("),
    # the recording
    ({"file_name": "empty.wav"}, "empty.wav is empty (0 bytes); record it again or remove the line"),
    ({"file_name": "text.wav"}, "text.wav is broken or not audio (Format not recognised); record it again or remove"),
    ({"file_name": "zero.wav"}, "zero.wav holds no audio (zero length); record it again or remove the line"),
    ({"file_name": "cut.wav"}, "cut.wav is cut short ("),
    ({"file_name": "silent.wav"}, "silent.wav holds no voice, only silence; record it again, or set speech_end_ms"),
    ({"file_name": "nan.wav"}, "nan.wav holds samples that are no numbers; export it again"),
    (
        {"file_name": "scaled.wav"},
        "scaled.wav has samples up to 9830.4 where full scale is 1; export it again, normalised",
    ),
    ({"file_name": "two.wav"}, "two.wav has channels that differ; set channel to left, right, a number or mix"),
    (
        {"file_name": "two.wav", "channel": 2},
        "channel 2 is not in two.wav, which has 2 channels; number them from 0 to",
    ),
    (AUDIO | {"channel": "right"}, "channel right is not in a.wav, which has 1 channel; remove channel"),
    # the segment
    (AUDIO | {"start_s": 1.0}, "start_s 1 is behind the end of a.wav (1.000 s); correct start_s"),
    (AUDIO | {"end_s": 1.01}, "end_s 1.01 is behind the end of a.wav (1.000 s); correct end_s"),
    (AUDIO | {"start_s": 0.5, "end_s": 0.5}, "end_s 0.5 is not after start_s 0.5; give the segment some length"),
    (AUDIO | {"start_s": 0.6, "end_s": 0.5}, "end_s 0.5 is not after start_s 0.6; give the segment some length"),
    (AUDIO | {"speech_end_ms": 1_100}, "speech_end_ms 1100 is behind the end of the item's audio (1.000 s); count it"),
    (AUDIO | {"start_s": 0.5, "speech_end_ms": 600}, "speech_end_ms 600 is behind the end of the item's audio (0.500"),
    (AUDIO | {"start_s": 0.0, "end_s": 0.1}, "a.wav holds no voice, only silence; record it again, or set speech_end"),
]


@pytest.fixture
def odd(folder, tone):
    """A folder with a good recording and one of every bad kind."""
    voice = tone(16_000)
    whole = folder.wav("a.wav").read_bytes()
    folder.wav("two.wav", np.stack([voice, voice * 0.5], axis=1))
    folder.wav("silent.wav", voice * 0)
    folder.wav("zero.wav", voice[:0])
    folder.wav("nan.wav", np.where(voice > 0.2, np.nan, voice), subtype="FLOAT")
    folder.wav("scaled.wav", voice * 32768, subtype="FLOAT")
    folder.wav("../outside.wav")
    (folder.path / "cut.wav").write_bytes(whole[:9_000])
    (folder.path / "empty.wav").touch()
    (folder.path / "text.wav").write_text("hello " * 50, encoding="utf-8")
    (folder.path / "link.wav").symlink_to("../outside.wav")
    (folder.path / "ring.wav").symlink_to("ring.wav")
    return folder


def test_every_problem_is_one_sentence_with_place_and_cure_and_all_are_told_together(odd):
    rows = (row if isinstance(row, str) else {"id": n} | row for n, (row, _) in enumerate(ONE_PROBLEM))
    found = problems(odd.lines(*rows))
    assert [problem.split(": ")[0] for problem in found] == [
        f"metadata.jsonl:{line}" for line in range(1, len(ONE_PROBLEM) + 1)
    ]
    for problem, (row, said) in zip(found, ONE_PROBLEM, strict=True):
        assert said in problem, row
        assert "\n" not in problem


def test_a_name_used_twice_is_told_with_both_lines(folder):
    folder.wav("a.wav")
    path = folder.lines({"id": "x", **TEXT}, AUDIO, {"id": "x", **TEXT}, "", AUDIO)
    assert problems(path) == [
        "metadata.jsonl:3: id 'x' was used in line 1; make ids unique",
        "metadata.jsonl:5: a.wav is the same recording as line 2; remove it, or give it an id",
    ]


def test_a_number_and_a_text_are_the_same_id(folder):
    assert problems(folder.lines({"id": 7, **TEXT}, {"id": "7", **TEXT})) == [
        "metadata.jsonl:2: id '7' was used in line 1; make ids unique"
    ]


def test_a_line_can_have_several_problems(folder):
    assert len(problems(folder.lines({"text": 3, "tags": 3, "expect": 3}))) == 3


def test_the_message_lists_all_problems(folder):
    with pytest.raises(DatasetError, match=r"has 2 problems:\n  .*jsonl:1: .*\n  .*jsonl:2: "):
        load_dataset(folder.lines({}, {}))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_dataset_without_an_item_is_an_error(folder, text):
    assert problems(folder.lines(text)) == ["metadata.jsonl: holds no item; add one line for each recording or prompt"]


def test_what_is_no_utf8_is_told_with_its_line(folder):
    (folder.path / "metadata.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xe4"}\n')
    assert problems(folder.path) == ["metadata.jsonl:2: is not UTF-8 text; save the file as UTF-8"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_metadata_that_may_not_be_read_is_told(folder):
    (folder.lines(TEXT) / "metadata.jsonl").chmod(0)
    assert "metadata.jsonl: cannot be read (Permission denied)" in problems(folder.path)[0]


@pytest.mark.parametrize(
    ("make", "said", "hint"),
    [
        pytest.param("nothing", "does not exist", "name a folder", id="missing"),
        pytest.param("file", "is not a folder", "name the folder", id="file"),
        pytest.param("empty", "has neither metadata.jsonl nor metadata.csv", "rteval init", id="no metadata"),
        pytest.param("both", "has both metadata.jsonl and metadata.csv", "remove one", id="both"),
    ],
)
def test_a_folder_that_is_no_dataset_says_so(folder, make, said, hint):
    path = folder.path
    if make == "nothing":
        path = path / "no"
    elif make == "file":
        path = folder.wav("a.wav")
    elif make == "both":
        folder.lines(TEXT)
        folder.csv("text\nhello\n")
    with pytest.raises(DatasetError, match=said) as error:
        load_dataset(path)
    assert hint in error.value.hint


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
columns = st.sampled_from(
    ["file_name", "text", "id", "expect", "tags", "channel", "start_s", "end_s", "speech_end_ms", "conversation_id"]
)


@given(st.lists(st.dictionaries(columns, json_values | st.sampled_from(["a.wav", "left", 1]), max_size=4), max_size=4))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_metadata_crashes_the_reader(folder, rows):
    """Whatever stands in the cells, the dataset is either good or a DatasetError."""
    folder.wav("a.wav")
    folder.lines(*rows)
    try:
        dataset = load_dataset(folder.path)
    except DatasetError as error:
        assert error.problems  # noqa: PT017  (either ending is right)
    else:
        assert len(dataset.items) == len(rows)


# -- what an item is -----------------------------------------------------------------------------------------------


def only(path, **selection):
    (item,) = load_dataset(path, **selection).items
    return item


def test_an_audio_item_has_all_that_its_line_says(folder):
    folder.wav("sub/a.wav")
    row = {
        "file_name": "sub/a.wav",
        "transcription": "hello there",
        "expect": {"contains": ["yes", "no"], "tool_call": {"name": "f", "arguments": {"x": 1}}},
        "conversation_id": "c",
        "tags": ["x", "y"],
        "language": "en",
        "voice": "anna",
        "age": None,
    }
    item = only(folder.lines(row))
    assert (item.id, item.modality, item.path) == ("sub/a", "audio", folder.path / "sub/a.wav")
    assert (item.reference, item.text, item.expect) == ("hello there", None, row["expect"])
    assert (item.conversation_id, item.tags, item.language) == ("c", ("x", "y"), "en")
    assert item.meta == {"voice": "anna", "age": None}
    assert item.duration_s == 1.0
    assert (item.speech_start_s, item.speech_end_s) == pytest.approx((0.2, 0.7), abs=0.011)


def test_a_text_item_has_no_audio_and_no_voice(folder):
    dataset = load_dataset(folder.lines({"text": "Hello.", "tags": "greeting", "expect": {"tool_call": "f"}}))
    (item,) = dataset.items
    assert (item.id, item.modality, item.text, item.tags) == ("text-1", "text", "Hello.", ("greeting",))
    assert (item.path, item.duration_s, item.speech_start_s, item.speech_end_s) == (None, 0.0, None, None)
    with pytest.raises(ValueError, match="has no audio"):
        dataset.samples(item)
    with pytest.raises(ValueError, match="has no audio"):
        dataset.encoded(item, PCM16)


def test_items_can_be_told_apart_and_kept_in_sets(folder):
    items = load_dataset(folder.lines(TEXT | {"expect": {"answer": "x"}}, TEXT)).items
    assert len(set(items)) == 2


def test_no_reference_is_no_error(folder):
    folder.wav("a.wav")
    dataset = load_dataset(folder.lines(AUDIO, TEXT))
    assert dataset.items[0].reference is None
    assert (dataset.references, dataset.audio_s, dataset.name) == (0, 1.0, "calls")


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        pytest.param([TEXT, AUDIO, TEXT], ["text-1", "a", "text-2"], id="numbered prompts"),
        pytest.param([{"id": "text-1", **TEXT}, TEXT], ["text-1", "text-2"], id="a number that is taken"),
        pytest.param([AUDIO, {"file_name": "a.flac"}], ["a-1", "a-2"], id="two endings"),
        pytest.param([AUDIO | {"end_s": 0.5}, AUDIO | {"start_s": 0.5}], ["a-1", "a-2"], id="two segments"),
        pytest.param([AUDIO, {"id": "a", **TEXT}], ["a-1", "a"], id="a name that is taken"),
        pytest.param([AUDIO, {"file_name": "s/a.wav"}], ["a", "s/a"], id="folders are part of the name"),
        pytest.param([{"file_name": "b.c.wav"}, {"id": 7, **TEXT}], ["b.c", "7"], id="dots and numbers"),
    ],
)
def test_an_item_without_an_id_is_called_by_its_file(folder, rows, ids):
    for name in ("a.wav", "a.flac", "s/a.wav", "b.c.wav"):
        folder.wav(name)
    assert [item.id for item in load_dataset(folder.lines(*rows)).items] == ids


# -- channels, segments, the end of speech -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "level"),
    [("left", 0.4), (0, 0.4), ("right", 0.2), (1, 0.2), (2, 0.0), ("mix", 0.2)],
)
def test_the_channel_asked_for_is_the_one_that_is_heard(folder, tone, channel, level):
    left, right = tone(24_000, level=0.4), tone(24_000, level=0.2)
    folder.wav("a.wav", np.stack([left, right, left * 0], axis=1), 24_000)
    row = AUDIO | {"channel": channel} | ({"speech_end_ms": 700} if not level else {})
    dataset = load_dataset(folder.lines(row))
    samples, rate = dataset.samples(dataset.items[0])
    assert (samples.shape, rate) == ((24_000,), 24_000)
    assert np.max(samples) == pytest.approx(level, abs=0.001)
    wire = np.frombuffer(dataset.encoded(dataset.items[0], PCM16), "<i2") / 32768
    assert np.allclose(wire, samples, atol=1e-4)


@pytest.mark.parametrize("difference", [0.0, 0.0009])
def test_channels_that_are_the_same_need_no_choice(folder, tone, difference):
    voice = tone(16_000)
    folder.wav("a.wav", np.stack([voice, voice + np.float32(difference)], axis=1))
    assert only(folder.lines(AUDIO)).channel is None


def test_a_segment_is_an_item_of_its_own(folder, tone):
    folder.wav("a.wav", np.concatenate([tone(16_000), tone(16_000, before_s=0.4)]))
    dataset = load_dataset(folder.lines(AUDIO | {"end_s": 1.0}, AUDIO | {"start_s": 1.0, "end_s": 2.2005}))
    first, second = dataset.items
    assert (first.duration_s, second.duration_s) == pytest.approx((1.0, 1.2))
    assert (first.speech_start_s, first.speech_end_s) == pytest.approx((0.2, 0.7), abs=0.011)
    assert (second.speech_start_s, second.speech_end_s) == pytest.approx((0.4, 0.9), abs=0.011)
    assert len(dataset.samples(second)[0]) == 19_200
    assert len(dataset.encoded(second, PCM16)) == PCM16.bytes_per_s * 1.2


@pytest.mark.parametrize(
    ("row", "start_s", "end_s"),
    [
        pytest.param({"speech_end_ms": 450}, 0.2, 0.45, id="earlier than detected"),
        pytest.param({"speech_end_ms": 1_000.4}, 0.2, 1.0, id="at the very end"),
        pytest.param({"speech_end_ms": 100}, None, 0.1, id="before the voice was heard"),
        pytest.param({"start_s": 0.75, "speech_end_ms": 100}, None, 0.1, id="where no voice was heard"),
        pytest.param({"start_s": 0.1, "speech_end_ms": 500}, 0.1, 0.5, id="counted from the segment's start"),
    ],
)
def test_speech_end_ms_overrides_the_detector(folder, row, start_s, end_s):
    folder.wav("a.wav")
    item = only(folder.lines(AUDIO | row))
    assert item.speech_end_s == pytest.approx(end_s)
    assert item.speech_start_s == (None if start_s is None else pytest.approx(start_s, abs=0.011))


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_an_item_is_encoded_as_its_samples_are(folder, monkeypatch, fmt, rate):
    from rteval.audio import encode

    monkeypatch.setattr("rteval.audio.BLOCK_FRAMES", 4_001)
    folder.wav("a.wav", rate=rate)
    dataset = load_dataset(folder.lines(AUDIO))
    item = dataset.items[0]
    assert dataset.encoded(item, fmt) == encode(*dataset.samples(item), fmt)


def test_a_file_that_goes_away_after_loading_is_a_dataset_error(folder):
    file = folder.wav("a.wav")
    dataset = load_dataset(folder.lines(AUDIO))
    file.unlink()
    with pytest.raises(DatasetError, match=r"a\.wav does not exist"):
        dataset.encoded(dataset.items[0], PCM16)


# -- CSV -----------------------------------------------------------------------------------------------------------


def test_csv_says_the_same_as_jsonl(folder):
    folder.wav("a.wav")
    rows = [
        AUDIO | {"start_s": 0.1, "channel": 0, "tags": ["x", "y"], "transcription": "yes, hello"},
        {"id": "p", "text": "Hi \u2028 there", "expect": {"contains": "a"}, "tags": ["x"], "wpm": "170"},
        {"id": "q", "text": "Hi", "tags": ["a b"], "channel": None},
    ]
    by_json = load_dataset(folder.lines(*rows)).items
    (folder.path / "metadata.jsonl").unlink()
    by_csv = load_dataset(
        folder.csv(
            "\ufeffid,file_name,text,start_s,channel,tags,transcription,expect,wpm\r\n"
            ',a.wav,,0.1,0,"x;y","yes, hello",,\r\n'
            'p,,Hi \u2028 there,,,x,,"{""contains"": ""a""}",170\r\n'
            'q,,Hi,,,"[""a b""]",,,\r\n'
        )
    ).items
    assert by_csv == by_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("text\n", "metadata.csv: holds no item", id="only a header"),
        pytest.param("", "metadata.csv: holds no item", id="nothing"),
        pytest.param("text,text\na,b\n", "metadata.csv:1: names a column twice", id="column twice"),
        pytest.param("text,tags\nHi,a,b\n", "metadata.csv:2: has more cells than the header", id="too many cells"),
        pytest.param('text\n"Hi\n', "metadata.csv:2: is not CSV (", id="open quote"),
        pytest.param('text,wpm\n"Hi\nthere",1\n,2\n', "metadata.csv:4: has neither", id="a cell of two lines"),
        pytest.param("text,expect\nHi,answer\n", "metadata.csv:2: expect is the text 'answer'", id="expect is no JSON"),
        pytest.param("file_name,end_s\na.wav,long\n", "metadata.csv:2: end_s is the text 'long'", id="no number"),
        pytest.param("file_name,end_s\na.wav,nan\n", "metadata.csv:2: end_s is nan", id="not a number"),
    ],
)
def test_csv_that_is_wrong_is_told_with_its_line(folder, text, said):
    folder.wav("a.wav")
    assert problems(folder.csv(text))[0].startswith(said)


# -- selection -----------------------------------------------------------------------------------------------------

ROWS = [
    {"id": "refund", "text": "a", "tags": ["billing"]},
    {"id": "c1", "text": "a", "conversation_id": "c", "tags": ["billing", "slow"]},
    {"id": "parcel", "text": "a"},
    {"id": "c2", "text": "a", "conversation_id": "c"},
    {"id": "c3", "text": "a", "conversation_id": "c", "tags": ["slow"]},
]


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        pytest.param({}, ["refund", "c1", "parcel", "c2", "c3"], id="everything"),
        pytest.param({"ids": ["parcel", "refund"]}, ["refund", "parcel"], id="ids keep the file's order"),
        pytest.param({"tags": ["slow"]}, ["c1", "c3"], id="a tag"),
        pytest.param({"tags": ["slow", "billing"]}, ["refund", "c1", "c3"], id="any of the tags"),
        pytest.param({"tags": ["billing"], "ids": ["c1", "c3"]}, ["c1"], id="tags and ids"),
        pytest.param({"limit": 2}, ["refund", "c1"], id="limit"),
        pytest.param({"limit": 9}, ["refund", "c1", "parcel", "c2", "c3"], id="a limit beyond the end"),
        pytest.param({"tags": ["slow"], "limit": 1}, ["c1"], id="limit counts what is left"),
    ],
)
def test_the_selection_keeps_the_order_of_the_file(folder, selection, left):
    assert [item.id for item in load_dataset(folder.lines(*ROWS), **selection).items] == left


@pytest.mark.parametrize(
    ("selection", "said", "hint"),
    [
        pytest.param({"ids": ["refnud"]}, "nothing to run: .* has no id 'refnud'", "did you mean 'refund'?", id="id"),
        pytest.param({"ids": ["c1", "xyz"]}, "has no id 'xyz'", "it has 'refund', 'c1', 'parcel'", id="one of the ids"),
        pytest.param({"tags": ["bill"]}, "has no tag 'bill'", "did you mean 'billing'?", id="tag"),
        pytest.param({"tags": ["slow"], "ids": ["c2"]}, "with the chosen ids has a tag of 'slow'", "drop", id="both"),
        pytest.param({"limit": 0}, "limit 0 leaves no item", "1 or more", id="limit"),
        pytest.param({"ids": []}, "ids of dataset .* is an empty list", "drop ids", id="no ids"),
        pytest.param({"tags": []}, "tags of dataset .* is an empty list", "drop tags", id="no tags"),
        pytest.param({"order": "random"}, "order 'random'", "file or shuffled", id="order"),
    ],
)
def test_a_selection_that_leaves_nothing_names_the_filter_and_the_cure(folder, selection, said, hint):
    with pytest.raises(DatasetError, match=said) as error:
        load_dataset(folder.lines(*ROWS), **selection)
    assert hint in error.value.hint


def test_a_tag_where_there_are_none_says_so(folder):
    with pytest.raises(DatasetError) as error:
        load_dataset(folder.lines(TEXT), tags=["x"])
    assert error.value.hint == "it has no tags"


def test_the_same_seed_gives_the_same_order_and_another_seed_another(folder):
    path = folder.lines(*({"id": f"i{n}", "text": "a"} for n in range(20)))
    orders = [[item.id for item in load_dataset(path, order="shuffled", seed=seed).items] for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != orders[2]
    assert orders[0] != [f"i{n}" for n in range(20)]


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_keeps_a_conversation_together_and_in_order(folder, seed):
    ids = [item.id for item in load_dataset(folder.lines(*ROWS), order="shuffled", seed=seed).items]
    at = ids.index("c1")
    assert ids[at : at + 3] == ["c1", "c2", "c3"]


def test_an_item_more_does_not_reorder_the_others(folder):
    rows = [{"id": f"i{n}", "text": "a"} for n in range(12)]
    before = [item.id for item in load_dataset(folder.lines(*rows[:-1]), order="shuffled").items]
    after = [item.id for item in load_dataset(folder.lines(*rows), order="shuffled").items]
    assert [id_ for id_ in after if id_ != "i11"] == before


# -- identity ------------------------------------------------------------------------------------------------------


def test_the_hash_follows_content_and_nothing_else(folder):
    file = folder.wav("a.wav")
    path = folder.lines(AUDIO, TEXT)
    first = load_dataset(path).hash
    assert load_dataset(path, limit=1).hash == first, "selection"
    metadata = path / "metadata.jsonl"
    metadata.write_bytes(metadata.read_bytes().replace(b"\n", b"\r\n\r\n").replace(b": ", b":"))
    assert load_dataset(path).hash == first, "white space and line endings"
    os.utime(file, (1, 1))
    assert load_dataset(path.rename(path.with_name("moved"))).hash == first, "place and time"


@pytest.mark.parametrize("change", ["audio", "metadata"])
def test_the_hash_changes_with_one_bit(folder, change):
    file = folder.wav("a.wav")
    path = folder.lines(AUDIO)
    first = load_dataset(path).hash
    if change == "audio":
        data = bytearray(file.read_bytes())
        data[random.Random(1).randrange(50, len(data))] ^= 1
        file.write_bytes(data)
    else:
        folder.lines(AUDIO | {"tags": ["x"]})
    assert load_dataset(path).hash != first


@pytest.mark.parametrize(
    ("column", "noted"),
    [("transcripton", True), ("transcript", True), ("tag", True), ("voice", False), ("speaker", False)],
)
def test_a_column_that_looks_misspelt_is_kept_and_noted(folder, column, noted):
    folder.wav("a.wav")
    dataset = load_dataset(folder.lines(AUDIO | {column: "x"}))
    assert dataset.items[0].meta == {column: "x"}
    assert [repr(column) in note for note in dataset.notes] == [True] * noted
