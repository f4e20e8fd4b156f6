"""Words for people: `t` says a marked sentence in the reader's language; only the top floors call it."""

import gettext
import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from recipes.words import N_

__all__ = ["N_", "inert", "language", "missing", "n", "t", "use"]

_chosen: list[str] = []


def language() -> str:
    """The reader's language, "en" or "zh": chosen with `use`, else ADVISOR_LANG, LC_ALL, LC_MESSAGES or LANG."""
    if _chosen:
        return _chosen[-1]
    names = (os.environ.get(key, "") for key in ("ADVISOR_LANG", "LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next(filter(None, names), "").lower().startswith("zh") else "en"


def use(code: str) -> None:
    """Speak `code` from now on, whatever the environment says."""
    _chosen[:] = [code]


@cache
def _catalogue(code: str) -> gettext.NullTranslations:
    path = files("advisor").joinpath("locale", code, "LC_MESSAGES", "advisor.mo")
    if code == "en" or not path.is_file():
        return gettext.NullTranslations()
    with path.open("rb") as handle:
        return gettext.GNUTranslations(handle)


def t(text: str, **values: object) -> str:
    """Translate `text` and fill its `{name}` places."""
    said = _catalogue(language()).gettext(text) if text else ""
    return said.format(**values) if values else said


def missing(sentences: Iterable[str], code: str) -> Iterator[str]:
    """Which of the sentences the catalogue of `code` does not translate; each once."""
    translate = _catalogue(code).gettext
    return (sentence for sentence in dict.fromkeys(sentences) if translate(sentence) == sentence)


def n(one: str, many: str, count: int, **values: object) -> str:
    """Translate a sentence that depends on a number; `{count}` is filled."""
    return _catalogue(language()).ngettext(one, many, count).format(count=count, **values)


_SAFE = {"\n", "\t"}


def inert(text: str, *, limit: int = 4000) -> str:
    """Make text of unknown origin harmless on a terminal.

    Control characters (C0, DEL, C1), bidirectional marks and line separators become visible pictures; newline and
    tab stay; the length is capped. The one filter for everything that comes from data, models or files.
    """
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join(c if c in _SAFE or c.isprintable() else _picture(c) for c in cut)


def _picture(c: str) -> str:
    code = ord(c)
    if code < 0x20:
        return chr(0x2400 + code)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
