"""Integrations with other libraries: logins, work in the background, health checks, metrics.

Each module imports its library, and is imported only by a site that has it.
"""
