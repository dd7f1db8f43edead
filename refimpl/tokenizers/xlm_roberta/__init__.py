"""XLM-R, XLM-R-XL and -XXL, X-MOD: the most probable pieces of a SentencePiece model."""
