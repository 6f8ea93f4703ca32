"""Access to the service and to the routes of vLLM behind it."""
