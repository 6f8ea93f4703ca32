"""What engines share: status codes, tokenizers, prefixes of token ids."""
