"""``python -m kexec_verify`` is the command line."""

from kexec_verify.cli import main

if __name__ == "__main__":
    main()
