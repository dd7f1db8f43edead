"""The files that fairseq and the XLM authors published, brought to Hugging Face layout."""
