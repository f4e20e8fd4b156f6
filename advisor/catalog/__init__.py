"""Facts about models and GPUs, each with its source and date."""
