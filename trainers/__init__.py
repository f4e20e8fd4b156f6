"""The part that does: a recipe in, a trained model, events and a report out."""
