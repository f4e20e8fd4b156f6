"""A 4-bit base that was judged first trains as if it had not been."""

import pytest
import tiny
import torch

from recipes.plan import Lora, Model
from trainers.policy import load

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft on new transformers


def test_judging_leaves_the_weights_of_a_4_bit_base_as_they_were(tmp_path):
    tiny.model().to(torch.bfloat16).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    policy = load(Model(id=str(tmp_path), dtype="bfloat16"), tmp_path, CPU, Lora(base="nf4"))
    ids = torch.randint(3, 200, (1, 17))
    layer = policy.causal.model.layers[0].mlp.down_proj
    packed = layer.weight.data.clone()

    with torch.no_grad():
        policy.causal.eval()(input_ids=ids)

    assert torch.equal(layer.weight.data, packed)
    policy.causal.train().enable_input_require_grads()
    assert policy.causal(input_ids=ids, labels=ids).loss.requires_grad
