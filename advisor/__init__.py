"""The part that thinks: answers in, advice, plan, estimate and recipe out. Never imports torch."""
