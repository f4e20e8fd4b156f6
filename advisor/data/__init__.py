"""Datasets without torch: read, detect, convert, check, split."""
