"""XLM: words by Moses or by a language's own segmenter, then byte-pair encoding."""
