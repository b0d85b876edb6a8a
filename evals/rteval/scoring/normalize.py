"""Text normalisers: what counts as the same word before words are compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version

__all__ = ["NORMALIZERS", "Normalizer", "normalizer"]

NORMALIZERS = ("whisper_english", "whisper_basic", "none")
"""What ``scoring.normalizer`` of a scenario may say; the first is the default."""

REMEMBERED = 4096
"""Texts whose normal form each normaliser keeps."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """One normaliser.

    Attributes:
        name: name and version, e.g. ``whisper_english/0.1.12``; stands in every row that it touched.
        apply: the function itself.
    """

    name: str
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        """Return the text in the form in which it is compared."""
        return self.apply(text)


def normalizer(name: str, language: str | None = None) -> Normalizer:
    """Return the normaliser that a text of this language gets.

    Whisper's English normaliser knows English contractions, spellings and numbers, so with ``whisper_english`` a text
    in another language gets Whisper's basic one instead, which only removes case, punctuation and symbols
    (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", appendix C).

    Args:
        name: one of ``NORMALIZERS``.
        language: language tag of the text, e.g. ``en`` or ``de-DE``; ``None`` means English.

    Raises:
        ValueError: no normaliser has that name.
    """
    if name not in NORMALIZERS:
        raise ValueError(f"no normaliser is called {name!r}; there are {', '.join(NORMALIZERS)}")
    if name == "whisper_english" and not _english(language):
        name = "whisper_basic"
    return _make(name)


def _english(language: str | None) -> bool:
    return not language or language.replace("_", "-").split("-")[0].strip().lower() in ("en", "eng", "english")


@cache
def _make(name: str) -> Normalizer:
    if name == "none":
        return Normalizer("none", _as_it_is)
    with warnings.catch_warnings():
        # The package's docstrings hold invalid escapes, which Python reports while it compiles them.
        warnings.simplefilter("ignore")
        from whisper_normalizer.basic import BasicTextNormalizer  # type: ignore[import-untyped]  # ships no types
        from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]  # the same
    normalise = EnglishTextNormalizer() if name == "whisper_english" else BasicTextNormalizer()
    # The same references come back with every repetition, and half a millisecond for each adds up.
    remembered = lru_cache(maxsize=REMEMBERED)(lambda text: str(normalise(text)).strip())
    return Normalizer(f"{name}/{version('whisper-normalizer')}", remembered)


def _as_it_is(text: str) -> str:
    return text
