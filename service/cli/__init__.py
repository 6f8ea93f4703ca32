"""The command line: one module or folder per command, shared code in common/."""
