"""Code shared by engines: HTTP statuses, tokenizers, token prefixes and UTF-8 repair."""
