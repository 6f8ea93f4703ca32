"""Makes a language model check and correct its own work at inference time, behind one HTTP service.

The code stands in the folders `service` and `strategies` at the top of the checkout; here they are
links, so that they import as `secondpass.service` and `secondpass.strategies` and no other name.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
