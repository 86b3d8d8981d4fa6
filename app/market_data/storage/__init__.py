"""Tables of any size: in memory up to a limit, in an unlinked file on a disk beyond it."""
