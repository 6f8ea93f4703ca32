"""What commands share: options, the client, output, and a service without a server."""
