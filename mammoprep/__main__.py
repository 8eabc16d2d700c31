"""``python -m mammoprep``."""

import sys


def main() -> None:
    """Run the command line."""
    from mammoprep.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
