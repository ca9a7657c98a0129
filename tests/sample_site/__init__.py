"""A site that logs its tenants' users in, and its own tests: the code of docs/testing.md."""
