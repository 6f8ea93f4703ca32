"""Configuration: settings, the sources they come from, API keys and calibration files."""
