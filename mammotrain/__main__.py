"""``python -m mammotrain``."""

import sys


def main() -> None:
    """Run the command line."""
    from mammotrain.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
