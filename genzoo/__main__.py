"""`python -m genzoo`, and so `accelerate launch -m genzoo` and `torchrun -m genzoo`."""

from genzoo.cli import main

if __name__ == "__main__":
    main()
