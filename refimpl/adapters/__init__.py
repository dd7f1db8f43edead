"""Other implementations as they run: what they compute, under the names of the taps."""
