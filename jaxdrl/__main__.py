"""`python -m jaxdrl`: the `jaxdrl` command, where commands are not on the path."""

from jaxdrl.cli.main import main

if __name__ == "__main__":
    main()
