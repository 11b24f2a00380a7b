"""The completion scripts work in the shells themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPLETE = {
    "bash": 'eval "$(larkdrop completion bash)"; COMP_WORDS=(larkdrop ga); COMP_CWORD=1; '
    '_larkdrop_completion larkdrop; echo "${COMPREPLY[@]}"',
    "zsh": "compdef() { :; }; _describe() { print -l -- ${(P)3}; }; words=(larkdrop ga); CURRENT=2; "
    'eval "$(larkdrop completion zsh)"; _larkdrop_completion',
    "fish": "larkdrop completion fish | source; complete -C 'larkdrop ga'",
}


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=pytest.mark.needs(shell)) for shell in COMPLETE])
def test_completion(shell: str) -> None:
    """The script works in the shell itself: it completes a command."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [shell, *(["-f"] if shell == "zsh" else []), "-c", COMPLETE[shell]]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert "gallery" in done.stdout, done.stderr


def test_a_mistyped_command_is_no_error_yet() -> None:
    """While a line is completed, nothing but completions goes into the shell."""
    asked = {"_LARKDROP_COMPLETE": "bash_complete", "COMP_WORDS": "larkdrop statsu ", "COMP_CWORD": "2"}
    words = [Path(sys.executable).with_name("larkdrop")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **asked})
    assert done.stderr == ""
