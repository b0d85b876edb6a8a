"""The scorer ``judge``: a language model holds each answer against a rubric, several times if it is told to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..scoring.scores import Measured, Metric, Scored
from .asking import Manner, Question, ask_all, is_answered
from .chat import Endpoint, address_fault
from .evidence import Evidence
from .protocol import Options, ScoredRun, Scorer
from .verdicts import PROMPT, WORDS, Case, agreeing_pairs, cases, messages

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Judge"]

OURS = ("model", "messages", "temperature", "stream", "n")
"""Keys of a request that ``extra`` cannot set."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rubric: str = Field(pattern=r"\S")
    model: str = Field(pattern=r"\S")
    base_url: str = "https://api.openai.com/v1"
    auth: Literal["api_key", "none"] = "api_key"
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    auth_header: Literal["bearer", "api-key"] = "bearer"
    temperature: float | None = Field(default=0.0, ge=0, le=2, allow_inf_nan=False)
    repeats: int = Field(default=1, ge=1, le=25)
    concurrency: int = Field(default=4, ge=1, le=64)
    timeout_s: float = Field(default=60.0, gt=0, le=600, allow_inf_nan=False)
    retries: int = Field(default=4, ge=0, le=10)
    max_s: float = Field(default=1800.0, gt=0, le=86_400, allow_inf_nan=False)
    min_scored: float = Field(default=0.95, ge=0, le=1)
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str | None:
        return (os.environ.get(self.api_key_env) or "").strip() or None if self.auth == "api_key" else None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.base_url, self.key, header=self.auth_header, timeout_s=self.timeout_s, retries=self.retries
        )

    def questions(self, case: Case) -> list[Question]:
        body = {"model": self.model, "messages": messages(self.rubric, case), **self.extra}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        ask = partial(Question, case.session, case.turn, case.item, body=body, address=self.base_url)
        return [ask(repeat=repeat) for repeat in range(self.repeats)]


class Judge(Scorer):
    """Asks a chat model for a verdict on every ok turn with an answer: ``pass``, ``fail`` or ``cannot_judge``."""

    metrics: Mapping[str, Metric] = {
        "pass_rate": Metric(
            "turns that passed, by more than half of the judge model's verdicts / turns that it came to a verdict on",
            of="pass",
        ),
        "agreement": Metric(
            "pairs of verdicts on one turn that are the same / all such pairs, over turns with two verdicts or more",
            of="pairs_alike",
            per="pairs",
        ),
        "scored_share": Metric(
            "turns that the judge model came to a verdict on / ok turns outside the warm-up", of="scored"
        ),
    }

    def faults(self, options: Options) -> Sequence[str]:
        """Options that are missing, unknown or of another type, and an address that cannot be asked."""
        try:
            read = _Options.model_validate(dict(options))
        except ValidationError as error:
            return [_sentence(fault) for fault in error.errors(include_url=False, include_input=False)]
        found = []
        if why := address_fault(read.base_url, has_key=read.auth == "api_key"):
            found.append(f"base_url: {why}")
        found += [f"extra.{name}: is said by an option of its own" for name in OURS if name in read.extra]
        return found

    def obstacle(self, options: Options) -> str | None:
        """No key, or one that no header can carry."""
        read = _Options.model_validate(dict(options))
        if read.auth == "none":
            return None
        if read.key is None:
            return f"there is no key: the environment variable {read.api_key_env} is not set"
        if not read.key.isascii() or not read.key.isprintable():
            return f"there is no key: {read.api_key_env} holds what no header can carry"
        return None

    def score(self, turns: pd.DataFrame, run: ScoredRun, options: Options) -> Scored:
        """Ask about every turn; a question that was answered before is not asked again."""
        read = _Options.model_validate(dict(options))
        manner = Manner(at_once=read.concurrency, max_s=read.max_s, quoting=run.texts_kept)
        with Evidence(run.evidence) as evidence:
            asked = [(case, read.questions(case)) for case in cases(turns)]
            missing = [ask for _, questions in asked for ask in questions if not is_answered(ask, evidence)]
            if missing:
                run.say(f"scorer {run.name}: asks {read.model} for {len(missing)} verdicts")
            trouble = ask_all(missing, read.endpoint, evidence, manner)
            found = {
                (case.session, case.turn): _Judged([evidence.of(question.key) for question in questions])
                for case, questions in asked
            }
        return _scored(found, turns, read, trouble)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What was said of one turn, one entry a repeat; ``None`` is no reply."""

    replies: Sequence[Mapping[str, Any] | None]

    @property
    def votes(self) -> list[bool]:
        """The replies that are a verdict: pass or fail."""
        verdicts = [WORDS.get(reply["verdict"]) for reply in self.replies if reply is not None]
        return [passed for passed in verdicts if passed is not None]

    @property
    def passed(self) -> bool | None:
        """Whether more than half of the votes let it pass; ``None`` when fewer than half of all replies are votes."""
        votes = self.votes
        if not votes or 2 * len(votes) < len(self.replies):
            return None
        return 2 * sum(votes) > len(votes)

    @property
    def reason(self) -> str | None:
        """Of the first reply that says what the turn's verdict is."""
        alike = (reply for reply in self.replies if reply and WORDS.get(reply["verdict"]) is self.passed)
        return next((reason for reply in alike if (reason := reply.get("reason"))), None)

    @property
    def why_not(self) -> str | None:
        """Why there is no verdict on the turn."""
        if self.passed is not None:
            return None
        if not any(self.replies):
            return "no reply of the judge model"
        return "the judge model could not judge it" if all(self.replies) else "too few replies of the judge model"


def _scored(
    found: Mapping[tuple[str, int], _Judged], turns: pd.DataFrame, options: _Options, trouble: str | None
) -> Scored:
    rows = [found.get(key) for key in zip(turns["session"].tolist(), turns["turn"].tolist(), strict=True)]
    verdicts = [None if row is None else row.passed for row in rows]
    ok = ((turns["outcome"].astype(object) == "ok") & ~turns["warmup"].astype("boolean").fillna(False)).tolist()
    wanted, n = sum(ok), sum(passed is not None for passed in verdicts)
    pairs = [(0, 0) if row is None else agreeing_pairs(row.votes) for row in rows]
    agreeing, all_pairs = (sum(counts) for counts in zip(*pairs, strict=True)) if pairs else (0, 0)
    several = sum(1 for _, count in pairs if count)
    why = _why_no_rate(n, wanted, options, trouble)
    return Scored(
        columns={
            "pass": verdicts,
            "scored": [passed is not None if is_ok else None for passed, is_ok in zip(verdicts, ok, strict=True)],
            "votes": [None if row is None else len(row.votes) for row in rows],
            "votes_pass": [None if row is None else sum(row.votes) for row in rows],
            "pairs_alike": [alike if count else None for alike, count in pairs],
            "pairs": [count or None for _, count in pairs],
            "reason": [None if row is None else row.reason for row in rows],
            "not_scored": list(_reasons(rows, ok)),
        },
        metrics={
            "pass_rate": Measured(None if why else sum(map(bool, verdicts)) / n, n, wanted - n, why),
            "agreement": Measured(
                agreeing / all_pairs if all_pairs else None,
                several,
                len(found) - several,
                None if all_pairs else "no turn has two verdicts (option repeats)",
            ),
            "scored_share": Measured(n / wanted if wanted else None, wanted, 0, None if wanted else "no turn was ok"),
        },
        about=_about(found, options),
        texts=("reason",),
    )


def _why_no_rate(n: int, wanted: int, options: _Options, trouble: str | None) -> str | None:
    """Why no share of passed turns is given; a rate over the few that could be scored would pass on nothing."""
    if not wanted:
        return "no turn was ok"
    if not n:
        return trouble or "no turn could be judged"
    if n / wanted >= options.min_scored:
        return None
    told = f"only {n} of {wanted} turns were scored, fewer than min_scored {options.min_scored:g}"
    return f"{told}: {trouble}" if trouble else told


def _reasons(rows: Sequence[_Judged | None], ok: Sequence[bool]) -> Iterator[str | None]:
    for row, is_ok in zip(rows, ok, strict=True):
        yield row.why_not if row is not None else "the answer has no words and calls no function" if is_ok else None


def _about(found: Mapping[tuple[str, int], _Judged], options: _Options) -> dict[str, Any]:
    models = {reply.get("model") for judged in found.values() for reply in judged.replies if reply is not None}
    return {
        "scorer": "judge",
        "model": options.model,
        "models_reported": sorted(model for model in models if model is not None),
        "base_url": options.base_url,
        "temperature": options.temperature,
        "repeats": options.repeats,
        "extra": options.extra,
        "prompt": PROMPT,
        "prompt_sha256": _digest(PROMPT),
        "rubric": options.rubric,
        "rubric_sha256": _digest(options.rubric),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sentence(fault: Any) -> str:
    """One sentence for what pydantic says of an option, without the value: a key may have been written there."""
    where, kind = ".".join(map(str, fault["loc"])), fault["type"]
    if kind == "extra_forbidden":
        known = ", ".join(_Options.model_fields)
        cure = "; name the variable that holds it in api_key_env" if "key" in where or "token" in where else ""
        return f"{where}: there is no such option{cure}; the options are {known}"
    if kind == "missing":
        return f"{where}: is required"
    if kind == "string_pattern_mismatch" and where == "api_key_env":
        return f"{where}: is the NAME of an environment variable, e.g. OPENAI_API_KEY"
    if kind == "string_pattern_mismatch":
        return f"{where}: is empty"
    return f"{where}: {str(fault['msg'])[:1].lower()}{str(fault['msg'])[1:]}"
