"""HTTP routes: parse and resolve requests, execute runs and render responses."""
