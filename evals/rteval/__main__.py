"""``python -m rteval`` is the command ``rteval``."""

from .cli import main

if __name__ == "__main__":
    main()
