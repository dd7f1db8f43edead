"""Proof that refimpl computes what the originals compute: goldens, comparison, verdicts."""
