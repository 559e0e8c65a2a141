"""`python -m firmware_bridge`: see `cli`."""

from .cli import main

if __name__ == "__main__":
    main()
