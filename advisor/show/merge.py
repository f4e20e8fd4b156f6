"""What a merge came to, and what it cost."""

from collections.abc import Iterator, Mapping
from typing import Any

from advisor.text import N_, inert, t


def merged(found: Mapping[str, Any], out: str) -> Iterator[str]:
    """The lines about one merge; `found` is the trainer's `merge.json`."""
    yield t(
        N_("{out}: a whole model of {base} and {count} adapter(s)"),
        out=inert(out),
        base=inert(str(found["base"])),
        count=len(found["adapters"]),
    )
    yield t(
        N_(
            "the largest difference of a logit is {difference}, beside logits of up to {largest} "
            "({positions} random positions)"
        ),
        difference=f"{found['difference']:.2g}",
        largest=f"{found['largest']:.3g}",
        positions=found["positions"],
    )
    if found["base_was"] != "dense":
        yield t(
            N_(
                "the base was held in {held} while training and was made dense: this is what the rounding costs"
            ),
            held=found["base_was"],
        )
