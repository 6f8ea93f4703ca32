"""`secondpass results`: write what was measured into documents."""
