"""Register a Django site as an OAuth client, and keep the registration alive."""

__version__ = "0.1.0"
