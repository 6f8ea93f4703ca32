"""Answer equivalence, decided in killable worker processes."""
