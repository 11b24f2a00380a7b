"""Knows the drop folders and nothing of Lark."""
