"""The trainer's process, its events and the shelf of past runs."""
