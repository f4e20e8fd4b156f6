"""Which format a record has, told from its columns by rules that can be read aloud."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from recipes.words import N_

Format = Literal["rows", "chat", "alpaca", "prompt_completion", "text"]
Kind = Literal["text", "number", "flag", "nothing", "object", "list", "messages", "pairs"]
Kinds = Mapping[str, Kind]
"""The columns of a record, in small letters, and what stands in each."""

MESSAGES: Final = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "items")
SYSTEM: Final = ("system", "system_prompt")
INSTRUCTION: Final = ("instruction", "instructions")
INPUT: Final = ("input", "query", "context_input")
OUTPUT: Final = ("output", "response", "completion", "answer", "target")
PROMPT: Final = ("prompt", "question", "query", "input", "problem", "user", "instruction")
COMPLETION: Final = (
    "completion", "response", "answer", "output", "target", "targets", "solution", "generation", "summary",
    "assistant", "reply", "translation",
)  # fmt: skip
CLASSIFIED: Final = ("text", "sentence", "content", "document")
LABEL: Final = ("label", "category", "class", "intent", "sentiment")
DOCUMENT: Final = ("text", "content", "document", "body")
GROUP: Final = (
    "conversation_id", "conv_id", "dialogue_id", "dialog_id", "thread_id", "session_id", "document_id", "doc_id",
    "group",
)  # fmt: skip
KEPT: Final = ("checks", "context")
"""Columns of our own rows that may stand beside any format."""

ROLE_KEYS: Final = ("role", "from", "speaker")
CONTENT_KEYS: Final = ("content", "value", "text")
PAIR_KEYS: Final = ("human", "assistant")


@dataclass(frozen=True, slots=True)
class Match:
    """A format, and which column fills which place of it (both in small letters).

    `rivals` are columns that could fill a place too: where there are any, a person should look.
    """

    format: Format
    columns: Mapping[str, str]
    rivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A format that is recognised and not trained on, and the sentence that says so."""

    format: str
    sentence: str


def kinds(record: Mapping[str, object]) -> Kinds:
    """The shape of a record: what its columns hold, not what they say."""
    return {key.strip().casefold(): _kind(value) for key, value in record.items()}


def detect(shape: Kinds) -> Match | Foreign | None:
    """The first rule that fits, or None. The order of `RULES` is the order of the rules' certainty."""
    return next((found for rule in RULES if (found := rule(shape))), None)


def mapped(mapping: Mapping[str, str]) -> Match:
    """The format that a person described by saying which column fills which place."""
    columns = {place: column.strip().casefold() for place, column in mapping.items()}
    if "messages" in columns:
        return Match("chat", columns)
    if "instruction" in columns:
        return Match("alpaca", columns)
    if "text" in columns:
        return Match("text", columns)
    return Match("prompt_completion", columns)


PLACES: Final = (
    "prompt", "completion", "instruction", "input", "output", "messages", "system", "history", "text", "group",
)  # fmt: skip
"""What a mapping may name."""


def _kind(value: object) -> Kind:
    match value:
        case None:
            return "nothing"
        case bool():
            return "flag"
        case str():
            return "messages" if _looks_like_messages(value) else "text"
        case int() | float():
            return "number"
        case dict():
            return "object"
        case list():
            return _kind_of_list(value)
        case _:
            return "object"


def _kind_of_list(value: list[object]) -> Kind:
    parts = [part for part in value if isinstance(part, dict)]
    if parts and len(parts) == len(value):
        keys = {str(key).casefold() for key in parts[0]}
        if keys & set(ROLE_KEYS) and keys & {*CONTENT_KEYS, "tool_calls"}:
            return "messages"
        if set(PAIR_KEYS) <= keys:
            return "pairs"
    return "list"


def _looks_like_messages(text: str) -> bool:
    """A list written as text (as JSON, or as Python does it), as tables have to."""
    start = text[:40].replace(" ", "").replace("'", '"')
    return start.startswith("[{") and any(
        f'{{"{key}"' in start for key in (*ROLE_KEYS, *CONTENT_KEYS, *PAIR_KEYS)
    )


# --- the rules, in their order ----------------------------------------------------------------------------------


def _own_rows(shape: Kinds) -> Match | None:
    """`messages` beside our own `source` object: written by `advisor data convert`."""
    if shape.get("messages") == "messages" and shape.get("source") == "object":
        return Match("rows", {"messages": "messages"})
    return None


def _tokenised(shape: Kinds) -> Foreign | None:
    if "input_ids" in shape:
        return Foreign(
            "tokenised",
            N_("this data is already tokenised, for one model only; give the texts that it was made from"),
        )
    return None


def _preference(shape: Kinds) -> Foreign | None:
    pairs = (
        {"chosen", "rejected"},
        {"chosen_response", "rejected_response"},
        {"response_w", "response_l"},
        {"preferred", "dispreferred"},
        {"preferred_output", "non_preferred_output"},
        {"messages", "rejected_response"},
    )
    if any(pair <= shape.keys() for pair in pairs):
        return Foreign(
            "preference",
            N_(
                "these are preference pairs (chosen, rejected); they need preference training, which is not SFT"
            ),
        )
    return None


def _ranked(shape: Kinds) -> Foreign | None:
    if shape.get("answers") == "list" or ("responses" in shape and {"scores", "ratings"} & shape.keys()):
        return Foreign(
            "ranked", N_("these are ranked answers; keep the best answer of each prompt to train on it")
        )
    return None


def _unpaired(shape: Kinds) -> Foreign | None:
    answer = {"completion", "response"} & shape.keys()
    thumbs = [shape.get(key) for key in ("label", "kto_tag")]
    if answer and any(kind in {"flag", "number"} for kind in thumbs):
        return Foreign(
            "unpaired",
            N_("these are answers with thumbs up or down (KTO); keep the good ones to train on them"),
        )
    return None


def _stepwise(shape: Kinds) -> Foreign | None:
    if shape.get("completions") == "list" and shape.get("labels") == "list":
        return Foreign(
            "stepwise", N_("these are step-by-step labels for a reward model, not answers to learn")
        )
    return None


def _configuration(shape: Kinds) -> Foreign | None:
    telling = {
        "learning_rate",
        "lr",
        "model_name_or_path",
        "base_model",
        "lora_rank",
        "lora_r",
        "num_train_epochs",
    }
    if len(telling & shape.keys()) >= 2:
        return Foreign("configuration", N_("this is the configuration of a run, not data; give the examples"))
    return None


def _chat(shape: Kinds) -> Match | None:
    named = [key for key in MESSAGES if shape.get(key) in {"messages", "pairs"}]
    columns = named or [key for key, kind in shape.items() if kind in {"messages", "pairs"}]
    if not columns:
        return None
    return Match(
        "chat", {"messages": columns[0], **_optional(shape, columns)}, _rivals({"messages": columns})
    )


def _multi_task(shape: Kinds) -> Match | None:
    if {"task", "input", "output"} <= shape.keys() and _is_text(shape, "task") and "instruction" not in shape:
        columns = {"prompt": "input", "completion": "output", "task": "task"}
        return Match("prompt_completion", {**columns, **_optional(shape, list(columns.values()))})
    return None


def _alpaca(shape: Kinds) -> Match | None:
    instruction = [key for key in INSTRUCTION if _is_text(shape, key)]
    outputs = [key for key in OUTPUT if key in shape]
    if not instruction or not outputs:
        return None
    inputs = [key for key in INPUT if key in shape]
    used = [instruction[0], outputs[0], *inputs[:1]]
    columns = {"instruction": instruction[0], "output": outputs[0]}
    columns |= {"input": inputs[0]} if inputs else {}
    columns |= {"history": "history"} if shape.get("history") == "list" else {}
    return Match("alpaca", {**columns, **_optional(shape, used)}, _rivals({"output": outputs}))


def _prompt_completion(shape: Kinds) -> Match | None:
    prompts = [key for key in PROMPT if _is_text(shape, key)]
    filled = [key for key in COMPLETION if shape.get(key, "nothing") != "nothing"]
    completions = filled or [key for key in COMPLETION if key in shape]
    if not prompts or not completions:
        return None
    columns = {"prompt": prompts[0], "completion": completions[0]}
    return Match(
        "prompt_completion",
        {**columns, **_optional(shape, [prompts[0], completions[0]])},
        _rivals({"prompt": prompts, "completion": completions}),
    )


def _classified(shape: Kinds) -> Match | None:
    """A text and its label in words: the label is the answer."""
    prompts = [key for key in CLASSIFIED if _is_text(shape, key)]
    labels = [key for key in LABEL if _is_text(shape, key)]
    if not prompts or not labels:
        return None
    columns = {"prompt": prompts[0], "completion": labels[0]}
    return Match("prompt_completion", {**columns, **_optional(shape, [prompts[0], labels[0]])})


def _document(shape: Kinds) -> Match | None:
    """One text column and no column that could be an answer to it."""
    named = [key for key in DOCUMENT if _is_text(shape, key)]
    if not named or any(key in shape for key in LABEL):
        return None
    return Match("text", {"text": named[0], **_optional(shape, named[:1])}, _rivals({"text": named}))


def _is_text(shape: Kinds, key: str) -> bool:
    return shape.get(key) == "text"


def _optional(shape: Kinds, used: list[str]) -> dict[str, str]:
    """Places that every format has: a system text, a group."""
    found = {}
    for place, names in (("system", SYSTEM), ("group", GROUP)):
        fitting = [key for key in names if shape.get(key) in {"text", "number"} and key not in used]
        if fitting:
            found[place] = fitting[0]
    return found


def _rivals(candidates: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {place: tuple(names) for place, names in candidates.items() if len(names) > 1}


RULES: Final[tuple[Callable[[Kinds], Match | Foreign | None], ...]] = (
    _own_rows,
    _tokenised,
    _preference,
    _ranked,
    _unpaired,
    _stepwise,
    _chat,
    _configuration,
    _multi_task,
    _alpaca,
    _prompt_completion,
    _classified,
    _document,
)

ROLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("user", "human", "customer", "prompter", "input", "question", "instruction", "client", "用户"), "user"
        ),
        **dict.fromkeys(
            ("assistant", "gpt", "bot", "model", "chatgpt", "bard", "bing", "agent", "ai", "answer", "output", "助手"),
            "assistant",
        ),
        **dict.fromkeys(("system", "system_prompt", "context_prompt", "developer"), "system"),
        **dict.fromkeys(
            (
                "tool", "observation", "function", "function_response", "ipython", "tool_response",
                "function_call", "tool_call",
            ),
            "tool",
        ),
    }
)  # fmt: skip
"""What people call the roles, stripped and in small letters."""
