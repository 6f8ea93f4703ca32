"""Configuration: settings and their sources, API keys, and calibration files."""
