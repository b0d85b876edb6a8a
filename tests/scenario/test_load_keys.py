"""The shapes of load that a scenario may ask for, and what contradicts what."""

from __future__ import annotations

import json

import pytest

from rteval.scenario import load_scenario


def stages(*pairs, key="sessions"):
    return ", ".join(f"{{duration_s: {duration_s}, {key}: {value}}}" for duration_s, value in pairs)


@pytest.mark.parametrize(
    ("text", "ends_s", "most_sessions"),
    [
        pytest.param("", None, 1, id="nothing said"),
        pytest.param("sessions: 5, ramp_s: 9", None, 5, id="closed"),
        pytest.param("sessions: 5, duration_s: 60, warmup_s: 10", 60, 5, id="closed, timed"),
        pytest.param(f"stages: [{stages((10, 4), (20, 9), (5, 0))}], warmup_s: 34", 35, 9, id="stages"),
        pytest.param("arrivals: {rate: 2}", None, 1000, id="arrivals"),
        pytest.param(
            "arrivals: {rate: 2, per: minute, process: poisson, seed: 4}, max_sessions: 7", None, 7, id="open"
        ),
        pytest.param("arrivals: {rate: 2, per: hour}, repeat: 3, ramp_s: 60", None, 1000, id="exact arrivals"),
        pytest.param("arrivals: {rate: 2}, duration_s: 60, ramp_s: 59", 60, 1000, id="open, timed"),
        pytest.param(
            f"arrivals: {{rate: 2, stages: [{stages((10, 4), (20, 0), key='rate')}]}}, ramp_s: 60",
            90,
            1000,
            id="stages of arrivals come after the ramp",
        ),
        pytest.param("stages: []", None, 1, id="no stage"),
        pytest.param("engine: locust", None, 1, id="engine"),
    ],
)
def test_a_load_has_a_shape_and_an_end(load, text, ends_s, most_sessions):
    found = load(f"load: {{{text}}}").load
    assert (found.ends_s, found.most_sessions) == (ends_s, most_sessions)


def test_every_key_is_read(load):
    found = load(
        "load: {arrivals: {rate: 120, per: minute, process: poisson, seed: 3, stages: [{duration_s: 60, rate: 240}]}, "
        "ramp_s: 0, max_sessions: 9, warmup_s: 5, engine: locust}"
    ).load
    arrivals = found.arrivals
    assert (arrivals.rate_per_s, arrivals.stages_per_s, arrivals.highest_per_s) == (2.0, ((60.0, 4.0),), 4.0)
    assert (arrivals.process, arrivals.seed, found.ramp_s) == ("poisson", 3, 0.0)
    assert (found.max_sessions, found.warmup_s, found.engine) == (9, 5.0, "locust")
    (stage,) = load("load: {stages: [{duration_s: 60, sessions: 4}]}").load.stages
    assert (stage.duration_s, stage.sessions) == (60.0, 4)


def test_what_is_not_said_of_a_load_has_a_default(load):
    found = load("load: {arrivals: {rate: 1}}").load
    assert (found.arrivals.per, found.arrivals.process, found.arrivals.seed) == ("second", "constant", 0)
    assert (found.ramp_s, found.stages, found.duration_s, found.warmup_s) == (None, (), None, 0.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            f"load: {{arrivals: {{rate: 1}}, stages: [{stages((1, 1))}]}}",
            "support.yaml:1: load.stages: contradicts load.arrivals: a load is so many sessions at once or so many in",
            id="stages and arrivals",
        ),
        pytest.param(
            "load:\n  arrivals: {rate: 1}\n  sessions: 5",
            "support.yaml:3: load.sessions: contradicts load.arrivals: how many are open follows from how many come",
            id="sessions and arrivals",
        ),
        pytest.param(
            f"load: {{stages: [{stages((1, 1))}], sessions: 1}}",
            "load.sessions: contradicts load.stages, each of which says its own sessions",
            id="sessions and stages",
        ),
        pytest.param(
            "load: {sessions: 4, max_sessions: 8}",
            "load.max_sessions: bounds load.arrivals, and there are none",
            id="bound without arrivals",
        ),
        pytest.param(
            f"load: {{stages: [{stages((1, 1))}], duration_s: 9}}",
            "load.duration_s: contradicts load.stages, which say themselves how long the run takes",
            id="stages and duration",
        ),
        pytest.param(
            f"load: {{arrivals: {{rate: 1, stages: [{stages((1, 1), key='rate')}]}}, duration_s: 9}}",
            "load.duration_s: contradicts load.arrivals.stages, which say themselves how long the run takes",
            id="stages of arrivals and duration",
        ),
        pytest.param(
            "load: {duration_s: 9, repeat: 2}",
            "load.repeat: contradicts load.duration_s: passes over the dataset go on until the time is over",
            id="repeat and duration",
        ),
        pytest.param(
            f"load: {{stages: [{stages((1, 1))}], repeat: 1}}",
            "load.repeat: contradicts load.stages",
            id="repeat and stages",
        ),
        pytest.param(
            f"load: {{stages: [{stages((5, 0), (5, 0))}]}}", "load.stages: never wants a session", id="only pauses"
        ),
        pytest.param(
            "load: {sessions: 4, ramp_s: 9, duration_s: 9}",
            "load.ramp_s: must be shorter than load.duration_s (9), or the load is never reached",
            id="ramp as long as the run",
        ),
        pytest.param(
            "load: {duration_s: 9, warmup_s: 9}",
            "load.warmup_s: must be shorter than the run (9 s), or nothing would be measured",
            id="warm-up as long as the run",
        ),
        pytest.param(
            f"load: {{stages: [{stages((5, 1), (5, 2))}], warmup_s: 10}}",
            "load.warmup_s: must be shorter than the run (10 s)",
            id="warm-up as long as the stages",
        ),
        pytest.param(
            "load: {warmup_s: 9}\nlimits: {wall_s: 9}",
            "load.warmup_s: must be shorter than limits.wall_s (9)",
            id="warm-up as long as the limit",
        ),
        pytest.param(
            "load: {duration_s: 60}\nlimits: {wall_s: 60}",
            "support.yaml:2: limits.wall_s: ends the run after 60 s, and the load takes 60 s and its last sessions",
            id="limit before the end",
        ),
        pytest.param(
            f"load: {{arrivals: {{rate: 1, stages: [{stages((5, 6), key='rate')}]}}}}\nlimits: {{connects_per_s: 5}}",
            "support.yaml:2: limits.connects_per_s: allows 5 in a second, and load.arrivals wants up to 6",
            id="more arrivals than connections",
        ),
        pytest.param(
            f"load: {{stages: [{stages((999999, 1), (999999, 2))}]}}",
            "load.stages: take 2e+06 s in all; 1000000 is the most",
            id="weeks",
        ),
        pytest.param("load: {ramp_s: 0.0001}", "load.ramp_s: must be 0 or at least 0.001", id="ramp of no length"),
        pytest.param("load: {arrivals: 5}", "load.arrivals: expected a mapping, got 5", id="arrivals of a number"),
        pytest.param(
            "load: {arrivals: {per: minute}}", "load.arrivals.rate: is required: How many sessions come", id="no rate"
        ),
        pytest.param(
            "load: {arrivals: {rate: 0}}", "load.arrivals.rate: must be at least 0.001, got 0", id="nobody comes"
        ),
        pytest.param(
            "limits: {connects_per_s: 1.0e-300}",
            "limits.connects_per_s: must be at least 0.001, got 1e-300",
            id="nobody connects",
        ),
        pytest.param(
            "load: {arrivals: {rate: 1, per: day}}",
            "load.arrivals.per: must be one of second, minute, hour, got the text 'day'",
            id="unit",
        ),
        pytest.param(
            "load: {arrivals: {rate: 1, proces: poisson}}",
            "load.arrivals.proces: unknown key; did you mean process?",
            id="near key of arrivals",
        ),
        pytest.param("load: {rate: 5}", "load.rate: unknown key", id="key of arrivals"),
        pytest.param(
            "load:\n  stages:\n  - duration_s: 5\n    sesions: 5\n    sessions: 1",
            "support.yaml:4: load.stages[0].sesions: unknown key; did you mean sessions?",
            id="near key of a stage",
        ),
        pytest.param(
            "load:\n  stages:\n  - duration_s: 5\n    sessions: 1\n  - duration_s: 5",
            "support.yaml:5: load.stages[1].sessions: is required: Sessions open at once",
            id="stage without sessions",
        ),
        pytest.param(
            "load: {stages: [{duration_s: 0, sessions: 1}]}",
            "load.stages[0].duration_s: must be at least 0.1, got 0",
            id="stage of no length",
        ),
        pytest.param(
            "load: {stages: {duration_s: 1, sessions: 1}}", "load.stages: expected a list, got a mapping", id="no list"
        ),
        pytest.param(
            "load: {sessions: 2000000}", "load.sessions: must be at most 1000000, got 2000000", id="too many sessions"
        ),
        pytest.param(
            "load: {engine: k6}", "load.engine: must be one of auto, asyncio, locust, got the text 'k6'", id="engine"
        ),
    ],
)
def test_what_contradicts_or_cannot_be_is_named_in_one_sentence(problems, text, sentence):
    (problem,) = problems(text)
    assert sentence in problem


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("load: {sessions: 4}", id="closed"),
        pytest.param("load: {duration_s: 60}", id="timed"),
        pytest.param(f"load: {{stages: [{stages((1, 1))}]}}", id="stages"),
        pytest.param("load: {arrivals: {rate: 1}}", id="arrivals"),
        pytest.param(
            f"load: {{arrivals: {{rate: 1, stages: [{stages((1, 1), key='rate')}]}}}}", id="arrivals in stages"
        ),
    ],
)
def test_a_resolved_load_does_not_contradict_itself(load, tmp_path, text):
    first = load(text)
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(first.resolved()))
    assert load_scenario(again, env={}).load == first.load
