"""Other libraries: logins with a registered client, engines for work in the background.

Each module imports its library, and is imported only by a site that has it.
"""
