"""Speaks to Lark and knows nothing of folders."""
