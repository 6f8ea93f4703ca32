"""How a strategy is run and served: engines, budgets, events, and the HTTP service around them."""
