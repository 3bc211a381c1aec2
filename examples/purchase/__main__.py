"""``python -m examples.purchase``: see `examples.purchase.story`."""

from examples.purchase.story import main

if __name__ == "__main__":
    main()
