"""How much a model can read, and what its configuration says of its parts."""

from typing import Any

from transformers import PreTrainedConfig


def context_tokens(config: PreTrainedConfig) -> int | None:
    """The longest document the model was made for; None where positions have no end.

    Positions that are stretched (YaRN, LongRoPE) reach as far as they are stretched, whatever the plain field says.
    """
    text = config.get_text_config()
    plain = getattr(text, "max_position_embeddings", None)
    if not plain:
        return None
    return max(int(plain), *(_stretched(one) for one in _ropes(getattr(text, "rope_parameters", None))))


def has_balancing_loss(config: PreTrainedConfig) -> bool:
    """Whether the model has experts and, where it was made, a loss that spread the tokens over them."""
    return getattr(config.get_text_config(), "router_aux_loss_coef", None) is not None


def _ropes(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The settings of rotary positions: one, or one for each kind of layer."""
    nested = [one for one in (found or {}).values() if isinstance(one, dict)]
    return nested or [found or {}]


def _stretched(rope: dict[str, Any]) -> int:
    return int(rope.get("original_max_position_embeddings", 0) * (rope.get("factor") or 1))
