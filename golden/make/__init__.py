"""Makes the goldens: runs the original implementations and records what they compute.

``python -m golden.make`` writes every case anew. Nothing here imports refimpl: a golden says what
the original computes, and our code must not have a word in it.
"""
