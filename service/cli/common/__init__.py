"""Code that several commands share: options, HTTP client, output, and the service in this process."""
