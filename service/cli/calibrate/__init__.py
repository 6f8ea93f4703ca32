"""`secondpass calibrate`: measure how well a model grades its own drafts."""
