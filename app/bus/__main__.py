"""``python -m app.bus COMMAND``: the processes and tools of the bus."""

import sys
from importlib import import_module
from typing import Final

COMMANDS: Final = {
    "shard": ("app.bus.outbox.process:main", "publish the order store of a stack, take controls"),
    "setup": ("app.bus.outbox.setup:setup", "make streams and consumers of the shards NAME..."),
    "read": ("app.bus.outbox.setup:read", "print what the shard NAME has published, as JSON"),
    "monitor": ("app.bus.monitor.process:monitor", "serve what the brokers say of themselves"),
    "sizes": ("app.bus.monitor.sizes:sizes", "measure the streams of the shards NAME..."),
    "remove": ("app.bus.outbox.removal:remove", "remove the stream STREAM with all it has"),
    "status": ("app.bus.outbox.setup:status", "show how far the stream is behind the store"),
    "sequence": ("app.bus.feed.commands:sequence", "publish a feed, divided by the shard map"),
    "move": ("app.bus.feed.commands:move", "move a symbol to another shard while the feed runs"),
}
"""Name -> module and function, what it does."""
EXIT_USAGE: Final = 2


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    name = arguments[0] if arguments else ""
    if name not in COMMANDS:
        print("usage: python -m app.bus COMMAND, one of:", file=sys.stderr)
        for each, (_, text) in COMMANDS.items():
            print(f"  {each:10}{text}", file=sys.stderr)
        return EXIT_USAGE
    module, _, function = COMMANDS[name][0].partition(":")
    code: int = getattr(import_module(module), function)(*arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
