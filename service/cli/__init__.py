"""The commands beside `serve`: questions to a running service, or to one of their own."""
