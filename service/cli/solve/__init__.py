"""`secondpass solve`: answer one question, drawn live at a terminal."""
