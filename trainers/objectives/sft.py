"""Supervised fine-tuning (Wei et al., 2021; Ouyang et al., 2022): say the answer, token by token."""

from trainers.loop import Batch, Loss
from trainers.policy import Policy


def sft(policy: Policy, batch: Batch) -> Loss:
    """Negative log-likelihood of the trained tokens: answers and the tokens that end them.

    Args:
        policy: Gives the likelihood of tokens.
        batch: Documents in one flat row.

    Returns:
        The sum in nats, fp32, over as many tokens as are trained.
    """
    return Loss(policy.loss(batch), batch.count)
