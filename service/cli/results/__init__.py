"""`secondpass results`: write tables and plots of measurements."""
