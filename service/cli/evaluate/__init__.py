"""`secondpass eval`: measure the accuracy and cost of strategies."""
