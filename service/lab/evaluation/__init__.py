"""What strategies are worth: pure metrics over plain records of attempts, without an engine."""
