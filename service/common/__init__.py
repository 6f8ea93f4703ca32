"""What every layer of the service uses: events, errors, limits, concurrency, server-sent events."""
