"""The service as HTTP sees it: requests are read and resolved here, and answers written; runs know nothing of it."""
