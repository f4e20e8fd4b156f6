"""From advice to a plan that fits: every field filled, every reason kept."""
