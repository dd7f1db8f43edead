"""PyTorch's own files, read as data: without PyTorch, and without running what is in them."""
