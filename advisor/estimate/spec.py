"""One record of a batch, in the words of published measurements, as a setup: its fields win over the profile's.

The fields are those that normalised measurements have (`model`, `method`, `seq_len`, `micro_batch`, `loss`, ...);
null, like a field that is not there, means that nobody knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from advisor.catalog.models import ModelShape, configured, model
from advisor.errors import BadValue
from advisor.estimate.profiles import NATIVE, Profile, profile
from advisor.estimate.setup import MAX_TOKENS, Setup, Unsupported
from recipes.plan import Adaptation, Full, LastLayers, Lora
from recipes.words import N_

LARGEST: Final = 10**9
"""No number of a record is larger; what is larger is a slip."""


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one record. Each reader refuses a value of the wrong kind and names the field."""

    fields: Mapping[str, object]

    def text(self, name: str) -> str | None:
        """A word, or None where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, str):
            self._refuse(name, N_("text"))
        return found if isinstance(found, str) else None

    def flag(self, name: str) -> bool | None:
        """Yes or no, or None where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, bool):
            self._refuse(name, N_("true or false"))
        return found if isinstance(found, bool) else None

    def whole(self, name: str, least: int = 1) -> int | None:
        """A whole number from `least`, or None where it is not known."""
        found = self.fields.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= LARGEST:
            self._refuse(name, N_("a whole number above 0") if least else N_("a whole number from 0"))
        return found if isinstance(found, int) else None

    def share(self, name: str) -> float | None:
        """A number from 0 to 1, or None where it is not known."""
        found = self.fields.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
            self._refuse(name, N_("a number from 0 to 1"))
        return float(found) if isinstance(found, int | float) else None

    def names(self, name: str) -> tuple[str, ...]:
        """Several words; none where they are not known."""
        found = self.fields.get(name)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            self._refuse(name, N_("a list of texts"))
        return tuple(found) if isinstance(found, list) else ()

    def table(self, name: str) -> Mapping[str, object]:
        """A table; an empty one where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, dict):
            self._refuse(name, N_("a table"))
        return found if isinstance(found, dict) else {}

    def needed(self, name: str) -> int:
        """A whole number above 0 without which there is no estimate.

        Raises:
            Unsupported: The record does not say.
        """
        found = self.whole(name)
        if found is None:
            raise Unsupported(
                N_("{field} is not known, and the estimate depends on it"),
                remedy=N_("say it in the record"),
                field=name,
            )
        return found

    def _refuse(self, name: str, wanted: str) -> None:
        raise BadField(
            N_("{field} must be {wanted}, not {value!r}"),
            remedy=N_("mend the record, or say null where it is not known"),
            field=name,
            wanted=wanted,
            value=str(self.fields[name])[:80],
        )


class BadField(BadValue):
    """A field of a record with a value that it cannot have."""

    worded = frozenset({"wanted"})


def described(fields: object) -> Setup:
    """Reduce one record to the input of an estimate.

    Raises:
        AdvisorError: The record is no table, a value is impossible, or nothing of ours describes what it asks for.
    """
    if not isinstance(fields, dict):
        raise BadValue(
            N_("a record must be a table of fields"), remedy=N_("give an object, or a list of them")
        )
    record = Record(fields)
    length, rows = record.needed("seq_len"), record.needed("micro_batch")
    if length * rows > MAX_TOKENS:
        raise BadField(
            N_("{field} must be {wanted}, not {value!r}"),
            remedy=N_("mend the record, or say null where it is not known"),
            field="seq_len x micro_batch",
            wanted=N_("fewer tokens"),
            value=str(length * rows),
        )
    return Setup(
        shape=_shape(record),
        adaptation=_adaptation(record),
        profile=_profile(record),
        micro_batch_tokens=length * rows,
        longest_tokens=length,
        accumulates=(record.whole("grad_accum") or 1) > 1,
        checkpointing=bool(record.flag("grad_ckpt")),
    )


def _shape(record: Record) -> ModelShape:
    config, name = record.table("model_config"), record.text("model")
    if config:
        return configured(config, name or "model_config")
    if not name:
        raise Unsupported(
            N_("{field} is not known, and the estimate depends on it"),
            remedy=N_("say it in the record"),
            field="model",
        )
    return model(name)


def _adaptation(record: Record) -> Adaptation:
    match record.text("method"):
        case "full":
            return Full()
        case "last_layers":
            return LastLayers(layers=record.needed("layers"))
        case "lora" | "qlora":
            return _lora(record)
        case other:
            raise Unsupported(
                N_("there is no formula for the method {method}"),
                remedy=N_("a dry run can tell: `advisor estimate --dry-run`"),
                method=other or "null",
            )


def _lora(record: Record) -> Lora:
    rank, targets = record.needed("lora_rank"), record.names("lora_targets")
    if not targets:
        raise Unsupported(
            N_("{field} is not known, and the estimate depends on it"),
            remedy=N_("say it in the record"),
            field="lora_targets",
        )
    if record.share("lora_dropout") and not record.flag("grad_ckpt"):
        raise Unsupported(
            N_("dropout keeps masks where activations are kept: there is no formula yet"),
            remedy=N_("a dry run can tell: `advisor estimate --dry-run`"),
        )
    quant = record.text("quant")
    return Lora(
        base="nf4" if quant else "dense", rank=rank, targets=targets, double_quantisation=quant != "nf4"
    )


_PROFILES: Final = {
    ("full_fp32_upcast", "4.48.1"): "hf-trainer",
    ("foak", "4.48.1"): "foak",
    ("foak", "4.45.2"): "foak-4.45",
    ("fused_linear", "4.45.2"): "liger",
}


def _profile(record: Record) -> Profile:
    loss, version = record.text("loss"), record.table("versions").get("transformers")
    if record.text("profile") == NATIVE:
        return profile(NATIVE)
    name = _PROFILES.get((loss or "", str(version)))
    if name is None or record.flag("mask_materialised") or record.text("weights_dtype") not in {None, "bf16"}:
        raise Unsupported(
            N_("there is no profile for a {loss} loss with transformers {version}"),
            remedy=N_("a dry run can tell: `advisor estimate --dry-run`"),
            loss=loss or "null",
            version=str(version),
        )
    used = profile(f"{name}-kbit" if record.flag("kbit_prep") and name == "hf-trainer" else name)
    if record.text("adapter_dtype") != "fp32":
        return replace(used, adapter_math="base")
    return replace(used, adapter_math="autocast" if record.text("autocast_dtype") else "adapter")
