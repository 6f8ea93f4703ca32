"""The server process: the application, its background tasks, its socket and its signals."""
