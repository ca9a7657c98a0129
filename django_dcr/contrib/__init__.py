"""Logins with a registered client through other libraries.

Each module imports its library, and is imported only by a site that has it.
"""
