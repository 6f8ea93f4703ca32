"""Reports: docs/results.md and its pages, the table of README.md, and plots, from recorded data."""
