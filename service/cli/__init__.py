"""The command line: one folder for each command, and what they share in common/."""
