"""``python -m larkdrop`` is the command ``larkdrop``."""

from larkdrop.cli import main

main()
