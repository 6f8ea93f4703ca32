"""Reports: docs/results.md, the table of README.md and the plots, made from records."""
