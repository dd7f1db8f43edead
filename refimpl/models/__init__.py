"""The architectures, one file each, told from ids to hidden states, and the heads they share."""
