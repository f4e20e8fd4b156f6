"""What is wrong with rows that could be read: one function a check, listed in `CHECKS`.

A check looks at all rows and says at most one sentence a row, or one for the whole. Codes: E should stop a run, W
warns, I informs. Thresholds are ours, unless a source stands beside them.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import log
from statistics import quantiles
from typing import Final

from advisor.data.facts import classes, is_schema
from advisor.data.findings import Finding
from advisor.data.read import control_character
from recipes.errors import Value
from recipes.rows import Row
from recipes.words import N_

DUPLICATE_SHARE: Final = 0.01
CONTRADICTED_SHARE: Final = 0.005
SHORT_WORDS: Final = 5
"""Up to this many words, two different answers to one prompt cannot both be right phrasings of the same thing."""
MIXED_FORM: Final = (0.8, 0.99)
"""Between these shares a form is neither the rule nor an accident: the rest is listed."""
OUTLIER_IQR: Final = 3.0
"""Tukey's "far out": this many interquartile ranges beyond the quartiles, on a logarithmic scale."""
OUTLIER_FACTOR: Final = 4.0
"""Up to this many times shorter or longer is never far out, however alike the others are."""
OUTLIER_ROWS: Final = 40
"""Below this many rows quartiles say nothing."""
BOILERPLATE_SHARE: Final = 0.2
BOILERPLATE_WORDS: Final = 6
IMBALANCE: Final = 20
CLASS_ROWS: Final = 20
"""Rows of a class below which it is not learned reliably (decision.md 2.6: fewer than 20 per class)."""
TOO_FEW: Final = 50
"""Below this even one narrow behaviour is not learned reliably (OpenAI's guide: at least 50 examples)."""
REPEATED_SHARE: Final = 0.15
REPEATED_WORDS: Final = 5
MOJIBAKE_SHARE: Final = 0.001
SHOWN: Final = 20
"""Findings of one check that name a row; the count is told in the last one."""

_CONTROL_TOKEN: Final = re.compile(
    r"<\|[A-Za-z][\w]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\uff5c[^<>\n]{1,40}\uff5c>"
)
"""ChatML, Llama 2 and 3, Mistral, Gemma, DeepSeek, Phi."""
_SECRET: Final = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{50,}\b"
    r"|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}\b"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
)
_MAIL: Final = re.compile(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+\b")
_MOJIBAKE: Final = re.compile(
    "\u00c3[\u0080-\u00bf]|\u00e2\u20ac[\u0090-\u2122]|\u00c2[\u00a0-\u00bf]|\ufffd"
)
"""UTF-8 that was read as Latin-1 or Windows-1252 and saved again; and U+FFFD, where a character was lost."""
_PLACEHOLDER: Final = re.compile(
    r"\bTODO\b|\bFIXME\b|\[(?:Your|Insert|Company|Customer) ?[A-Za-z ]{0,20}\]|lorem ipsum", re.IGNORECASE
)
_REFUSAL: Final = re.compile(
    r"^\s*(?:I'?m sorry,? (?:but )?(?:I )?can|As an AI\b|I cannot (?:help|assist)|作为一个?(?:AI|人工智能))",
    re.IGNORECASE,
)

Check = Callable[[Sequence[Row]], Iterator[Finding]]


def check(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Run every check on `rows`, the gravest findings first."""
    found = [finding for one in CHECKS for finding in one(rows)]
    return tuple(sorted(found, key=lambda finding: "EWI".index(finding.code[0])))


def control_tokens(rows: Sequence[Row]) -> Iterator[Finding]:
    """Chat control tokens inside the text: they would end or begin a turn."""
    text = N_("the text holds the control token {token}; remove it, the template writes its own")
    yield from _first(_matching(rows, _CONTROL_TOKEN, "E_SPECIAL", text, "token"), rows)


def secrets(rows: Sequence[Row]) -> Iterator[Finding]:
    """Keys and private keys: a model repeats what it learned."""
    for row in rows:
        if _SECRET.search(_all_text(row)):  # never quoted: the finding must not spread it
            yield _at(
                row, "E_SECRET", N_("the text holds something that looks like a key or password; remove it")
            )


def duplicates(rows: Sequence[Row]) -> Iterator[Finding]:
    """The same prompt with the same answer, again."""
    first, again = dict[tuple[str, str], Row](), list[tuple[Row, Row]]()
    for row in rows:
        kept = first.setdefault((_exact_prompt(row), row.answer.strip()), row)
        if kept is not row:
            again.append((row, kept))
    if len(again) > DUPLICATE_SHARE * len(rows):
        row, kept = again[0]
        text = N_("{count} rows repeat an earlier row (this one: line {first}); repetition weighs them more")
        yield _at(row, "W_EXACT_DUP", text, count=len(again), first=kept.source.line)


def contradictions(rows: Sequence[Row]) -> Iterator[Finding]:
    """One prompt with several answers that cannot all be right."""
    answers = defaultdict[str, dict[str, Row]](dict)
    for row in rows:
        if row.kind == "sft":
            answers[_exact_prompt(row)].setdefault(row.answer.strip().casefold(), row)
    torn = [list(found.values()) for found in answers.values() if len(found) > 1 and _exclusive(found)]
    if torn and sum(map(len, torn)) > CONTRADICTED_SHARE * len(rows):
        text = N_(
            "{count} prompts have answers that contradict each other; here: {one!r}, line {line}: {two!r}"
        )
        one, two = torn[0][:2]
        yield _at(
            two, "W_CONTRADICT", text, count=len(torn), one=_brief(two.answer), line=one.source.line, two=_brief(one.answer)
        )  # fmt: skip


def lengths(rows: Sequence[Row]) -> Iterator[Finding]:
    """Answers far outside the usual length."""
    if len(rows) < OUTLIER_ROWS:
        return
    sizes = [log(1 + len(row.answer)) for row in rows]
    low, _, high = quantiles(sizes, n=4)
    reach = max(OUTLIER_IQR * (high - low), log(OUTLIER_FACTOR))
    odd = [row for row, size in zip(rows, sizes, strict=True) if not low - reach <= size <= high + reach]
    if odd:
        text = N_(
            "{count} answers are much shorter or longer than the others; this one has {characters} characters"
        )
        yield _at(odd[0], "W_LENGTH", text, count=len(odd), characters=len(odd[0].answer))


def form(rows: Sequence[Row]) -> Iterator[Finding]:
    """Most answers are JSON and some are not: the model learns the mixture."""
    answers = [row for row in rows if row.kind == "sft"]
    wrong = [row for row in answers if not _is_json(row.answer)]
    right = len(answers) - len(wrong)
    if answers and MIXED_FORM[0] * len(answers) <= right < len(answers):
        text = N_("{right} answers are JSON and {count} are not, such as this one: {excerpt!r}")
        yield _at(wrong[0], "W_FORMAT", text, right=right, count=len(wrong), excerpt=_brief(wrong[0].answer))
    elif not wrong and answers and not is_schema([row.answer for row in answers]):
        text = N_("the answers are JSON, but their keys differ from row to row")
        yield _of_all(rows, "W_FORMAT", text)


def balance(rows: Sequence[Row]) -> Iterator[Finding]:
    """Classes that are too rare to be learned, or drowned by others."""
    counts = classes([row.answer for row in rows if row.kind == "sft"])
    if not counts:
        return
    rare, often = min(counts, key=lambda k: counts[k]), max(counts, key=lambda k: counts[k])
    if counts[rare] < CLASS_ROWS or counts[often] > IMBALANCE * counts[rare]:
        text = N_("the class {rare!r} has {few} rows and {often!r} has {many}; rare classes are not learned")
        yield _of_all(
            rows, "W_BALANCE", text, rare=_brief(rare), few=counts[rare], often=_brief(often), many=counts[often]
        )  # fmt: skip


def openings(rows: Sequence[Row]) -> Iterator[Finding]:
    """Many answers that begin with the same words: meant as a style, or left over from a template?"""
    starts = Counter(
        " ".join(words[:BOILERPLATE_WORDS])
        for row in rows
        if row.kind == "sft" and len(words := row.answer.split()) > BOILERPLATE_WORDS
    )
    for opening, count in starts.most_common(1):
        if count > max(3, BOILERPLATE_SHARE * len(rows)):
            text = N_("{count} answers begin with the same words: {opening!r}; the model will, too")
            yield _of_all(rows, "W_BOILER", text, count=count, opening=opening[:80])


def leftovers(rows: Sequence[Row]) -> Iterator[Finding]:
    """Placeholders and refusals of another model inside the answers."""
    for pattern, text in (
        (_PLACEHOLDER, N_("the answer holds a placeholder: {excerpt!r}")),
        (_REFUSAL, N_("the answer refuses, as another model would: {excerpt!r}")),
    ):
        found = (
            _at(row, "W_BOILER", text, excerpt=match[0][:60].strip())
            for row in rows
            if row.kind == "sft" and (match := pattern.search(row.answer))
        )
        yield from _first(found, rows)


def encoding(rows: Sequence[Row]) -> Iterator[Finding]:
    """Characters that were damaged on the way: mojibake, lost characters, control characters."""
    torn = [(row, match[0]) for row in rows if (match := _MOJIBAKE.search(_all_text(row)))]
    if len(torn) > MOJIBAKE_SHARE * len(rows):
        text = N_(
            "{count} rows hold damaged characters, such as {excerpt!r}: read with the wrong encoding once"
        )
        yield _at(torn[0][0], "W_ENC", text, count=len(torn), excerpt=torn[0][1])
    odd = ((row, control_character(_all_text(row))) for row in rows)
    text = N_("the text holds the control character {character}")
    yield from _first((_at(row, "W_ENC", text, character=found) for row, found in odd if found), rows)


def repetition(rows: Sequence[Row]) -> Iterator[Finding]:
    """Answers that say the same words over and over: a generator that got stuck."""
    text = N_("the answer repeats itself: {percent} % of its {words}-word phrases come back")
    found = (
        _at(row, "W_REPEAT", text, percent=round(100 * share), words=REPEATED_WORDS)
        for row in rows
        if row.kind == "sft" and (share := _repeated(row.answer)) > REPEATED_SHARE
    )
    yield from _first(found, rows)


def personal(rows: Sequence[Row]) -> Iterator[Finding]:
    """Mail addresses: personal data that a model may repeat. Counted, never quoted."""
    found = [row for row in rows if "@" in (text := _all_text(row)) and _MAIL.search(text)]
    if found:
        text = N_("{count} rows hold a mail address; a model may repeat what it learned")
        yield _at(found[0], "W_PII", text, count=len(found))


def size(rows: Sequence[Row]) -> Iterator[Finding]:
    """Very few rows: nothing can be learned, or nothing can be judged."""
    if len(rows) < TOO_FEW:
        text = N_("{count} rows are few: below {least} even one narrow behaviour is not learned reliably")
        yield _of_all(rows, "W_SIZE", text, count=len(rows), least=TOO_FEW)
    else:
        yield _of_all(rows, "I_SIZE", N_("{count} rows in all"), count=len(rows))


CHECKS: Final[tuple[Check, ...]] = (
    control_tokens,
    secrets,
    duplicates,
    contradictions,
    lengths,
    form,
    balance,
    openings,
    leftovers,
    encoding,
    repetition,
    personal,
    size,
)


# --- shared -----------------------------------------------------------------------------------------------------


def _matching(
    rows: Sequence[Row], pattern: re.Pattern[str], code: str, text: str, name: str
) -> Iterator[Finding]:
    for row in rows:
        if match := pattern.search(_all_text(row)):
            yield _at(row, code, text, **{name: match[0][:60]})


def _first(found: Iterable[Finding], rows: Sequence[Row]) -> Iterator[Finding]:
    """The first `SHOWN` findings, and how many more there are."""
    kept = list(found)
    yield from kept[:SHOWN]
    if len(kept) > SHOWN:
        yield _of_all(
            rows, kept[0].code, N_("{count} more rows have the same problem"), count=len(kept) - SHOWN
        )


def _at(row: Row, code: str, text: str, **values: Value) -> Finding:
    return Finding(row.source.file, row.source.line, None, code, text, values)


def _of_all(rows: Sequence[Row], code: str, text: str, **values: Value) -> Finding:
    return Finding(rows[0].source.file if rows else "", 0, None, code, text, values)


def _all_text(row: Row) -> str:
    return "\n".join(turn.content for turn in row.messages)


def _exact_prompt(row: Row) -> str:
    """The prompt as it stands but for spaces and case: 3+4 and 3-4 are different questions."""
    return "\x1f".join(f"{turn.role}:{' '.join(turn.content.casefold().split())}" for turn in row.prompt)


def _exclusive(answers: Iterable[str]) -> bool:
    """Whether different answers contradict each other: short ones do, and JSON values; long texts may paraphrase."""
    return all(len(answer.split()) <= SHORT_WORDS or _is_json(answer) for answer in answers)


def _is_json(answer: str) -> bool:
    if answer.lstrip()[:1] not in {"{", "["}:
        return False
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True


def _repeated(answer: str) -> float:
    """The share of phrases of `REPEATED_WORDS` words that stood before in the same answer."""
    words = answer.casefold().split()
    phrases = [tuple(words[i : i + REPEATED_WORDS]) for i in range(len(words) - REPEATED_WORDS + 1)]
    return 1 - len(set(phrases)) / len(phrases) if len(phrases) >= 2 * REPEATED_WORDS else 0.0


def _brief(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
