"""A watch-folder daemon that uploads dropped images to Lark/Feishu and keeps their image_key beside them."""

__version__ = "0.1.0"
