"""The commands by one name: mlp-study COMMAND, the same as python -m mlp_study.COMMAND."""

from __future__ import annotations

import runpy
import sys

from mlp_study.errors import unknown
from mlp_study.runtime.guard import fail, guarded

COMMANDS = {
    "train": "train one run, or with -m a sweep",
    "diagnose": "say before training whether a network will learn, why not, and what would cure it",
    "reproduce": "train the five sources over many seeds and judge their claims",
    "report": "write one page about runs, sweeps or searches",
    "status": "say how far a sweep is",
}
_LISTED = "".join(f"  {name:<10} {purpose}\n" for name, purpose in COMMANDS.items())
HELP = f"""usage: mlp-study COMMAND [...], or python -m mlp_study.COMMAND [...]

{_LISTED}
mlp-study COMMAND --help explains a command. Completion by the shell, in its start file:
  bash, zsh:  eval "$(mlp-study --completion bash)"      (zsh: autoload -U bashcompinit; bashcompinit first)
  fish:       mlp-study --completion fish | source
"""


def main() -> None:
    """The command that the first argument names, with the arguments after it."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(HELP, end="")
    elif name in ("--completion", "--complete"):
        from mlp_study.config.completion import candidates, script

        def offered(words: list[str]) -> str:
            return "\n".join(candidates(words, COMMANDS))

        guarded(lambda: print(script(sys.argv[2:]) if name == "--completion" else offered(sys.argv[2:])))
    elif name not in COMMANDS:
        fail(str(unknown("command", name, COMMANDS)))
    else:
        sys.argv[:2] = [f"mlp-study {name}"]
        runpy.run_module(f"mlp_study.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
