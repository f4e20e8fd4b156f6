"""Lantern Bay: a generated harbour town, its small base model and its tasks, for demos, workshops and tests."""
