"""`secondpass pool`: record samples of a model, and replay strategies over them."""
