"""`secondpass pool`: record what a model writes, and replay strategies over it."""
