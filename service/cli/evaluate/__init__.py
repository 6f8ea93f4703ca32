"""`secondpass eval`: how often strategies are right, and at what cost."""
