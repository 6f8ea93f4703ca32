"""Interfaces for strategy authors: values, the Run and Engine protocols, errors and the registry."""
