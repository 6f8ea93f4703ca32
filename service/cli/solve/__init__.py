"""`secondpass solve`: answer one question and draw the run at a terminal."""
