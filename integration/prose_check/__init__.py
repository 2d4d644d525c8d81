"""Check the language of pages, comments, docstrings, messages and names against docs/style.md: `make prose`."""
