"""What the service costs: programs that print tables. Not shipped."""
