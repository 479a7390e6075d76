"""The mood of a text, by well-kept lexicons and models for English and Chinese."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from limner.errors import MissingExtra
from limner.events.tokens import LONGEST, cjk_share


def require() -> None:
    """Raise MissingExtra unless both libraries are there."""
    if find_spec("vaderSentiment") is None or find_spec("snownlp") is None:
        raise MissingExtra("sentiment", "text")


@lru_cache(maxsize=1)
def _english() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=1)
def _chinese() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its regular expressions, written for older Pythons
        from snownlp import SnowNLP
    return SnowNLP


@lru_cache(maxsize=10_000)
def sentiment(text: str) -> float:
    """From −1 (bad) to 1 (good); 0 for a text without any word.

    Chinese if three tenths of its letters are. Needs the extra `text`.
    """
    text = text[:LONGEST].strip()
    if not any(character.isalpha() for character in text):
        return 0.0
    if cjk_share(text) >= 0.3:
        return 2 * float(_chinese()(text).sentiments) - 1
    return float(_english().polarity_scores(text)["compound"])
