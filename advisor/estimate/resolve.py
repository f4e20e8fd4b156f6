"""Which profile a record means: its trainer's for its version, changed by every field that the record says itself."""

from dataclasses import replace
from typing import Any, Final

from advisor.estimate.optimizers import optimizers
from advisor.estimate.profiles import Head, Profile, heads, profiles
from advisor.estimate.record import Record, no_formula, unknown
from recipes.words import N_

FAR: Final = 2.0
"""How much wider the interval is for a version outside the range that a profile was read from."""
_THIRTY_TWO: Final = frozenset({"fp32", "float32"})
_SIXTEEN: Final = frozenset({"bf16", "bfloat16", "fp16", "float16"})


def resolved(record: Record) -> Profile:
    """The profile that a record means.

    Raises:
        Unsupported: No trainer is named, none of that name is known, or its loss has no figures.
    """
    used = _of_trainer(record)
    changes: dict[str, Any] = {}
    if (head := _head(record, used)) is not None:
        changes["head"] = head
    if (mask := record.flag("mask_materialised")) is not None:
        changes["mask"] = mask
    if (attention := record.text("attention")) in {"eager", "sdpa", "flash"}:
        changes["attention"] = attention
    if (name := _optimizer(record)) is not None:
        changes["optimizer"] = name
    kernels = record.names("fused_kernels")
    if "torch_compile" in kernels:
        changes["compiled"] = True
    if "rmsnorm" in kernels:
        changes["norm"] = "function"
    if "swiglu" in kernels:
        changes["swiglu"] = "function"
    if record.flag("kbit_prep"):
        changes |= {"kbit_prep": True, "stored_per_hidden": 4.0}
    return replace(used, **changes | _adapters(record, used))


def _of_trainer(record: Record) -> Profile:
    word = record.text("profile")
    if word is None:
        raise unknown("profile")
    known = [one for one in profiles().values() if word.lower() in (one.name, *one.trainers)]
    if not known:
        raise no_formula(N_("there is no profile of the trainer {word}"), word=word)
    inside = [one for one in known if _inside(record, one)]
    if inside:
        return inside[0]
    near = known[-1]
    return replace(near, tolerance=FAR * near.tolerance, out_of_range=True)


def _inside(record: Record, one: Profile | Head) -> bool:
    """Whether the record's version of the library is in the range that was read; an unknown version is not refused."""
    if not one.library:
        return True
    version = record.table("versions").get(one.library)
    if not isinstance(version, str):
        return True
    numbers = _numbers(version)
    return _numbers(one.since) <= numbers and (not one.until or numbers < _numbers(one.until))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+", maxsplit=1)[0].split(".")
    return tuple(int(part) if part.isdecimal() else 0 for part in parts[:3])


def _head(record: Record, used: Profile) -> Head | None:
    """The loss that the record names, in the figures of its version; None where the trainer's own will do."""
    word = record.text("loss") or used.head.loss
    if word == used.head.loss and _inside(record, used.head):
        return None
    own = [one for one in heads().values() if word in one.words]
    if not own:
        raise no_formula(N_("there is no formula for the loss {word}"), word=word)
    inside = [
        one for one in own if one.library and one.library in record.table("versions") and _inside(record, one)
    ]
    fitting = inside or [one for one in own if not one.library]
    if not fitting:
        version = str(record.table("versions").get(own[0].library))
        raise no_formula(
            N_("the loss {word} was not derived for {library} {version}"),
            word=word,
            library=own[0].library,
            version=version,
        )
    return fitting[0]


def _optimizer(record: Record) -> str | None:
    word, detail = record.text("optimizer"), (record.text("optimizer_detail") or "").lower()
    if word is None or word == "adamw":
        return None
    if word == "other":
        word = "paged_adamw" if "pagedadamw" in detail.replace(" ", "").replace("_", "") else detail
        word = "paged_adamw_8bit" if "pagedadamw8bit" in detail.replace(" ", "").replace("_", "") else word
    for one in optimizers().values():
        if word.lower() in (one.name, *one.words):
            return one.name
    raise no_formula(N_("there is no formula for the optimizer {word}"), word=word)


def _adapters(record: Record, used: Profile) -> dict[str, Any]:
    """In which type adapters are held, and in which they meet their input."""
    word = record.text("adapter_dtype")
    autocast = record.text("autocast_dtype") in _SIXTEEN
    if word in _SIXTEEN:
        return {"adapter_bytes": 2, "adapter_math": "base"}
    if word in _THIRTY_TWO and not used.is_native:
        return {"adapter_bytes": 4, "adapter_math": "autocast" if autocast else "adapter"}
    return {}
