"""A local Lark for demos and tests."""
