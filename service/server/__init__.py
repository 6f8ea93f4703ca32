"""The server process: application, background tasks, listening sockets and signal handling."""
