"""`secondpass calibrate`: measure how far a model can judge itself."""
