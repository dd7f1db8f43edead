"""What every tokenizer does with a call: arguments checked, ids cut, padded, handed over."""
