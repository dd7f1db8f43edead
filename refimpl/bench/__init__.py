"""Timing: forward passes of a checkpoint, or of random weights, beside PyTorch's and the peak."""
