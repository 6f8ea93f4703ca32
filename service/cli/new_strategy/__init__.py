"""`secondpass new-strategy`: write the files of a new strategy into a checkout."""
