"""Checkpoint files -> named arrays: mapped into memory, checked by name and shape, read lazily."""
