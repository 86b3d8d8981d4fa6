"""Addresses without what may be secret in them."""

import re
from typing import Final

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#]*)([^\s?#]*)\S*")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]*)(?::\d*)?")


def shown_address(text: str) -> str:
    """The text with its addresses as scheme, host and path: no user, password, query, fragment.

    Text without an address stays as it is.  A token within a path is not recognised.
    """
    return _ADDRESS.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    scheme, host, path = found[1], found[2].rpartition("@")[2], found[3]
    # A password with a slash ends the host too early: then nothing is sure.
    return f"{scheme}://{host}{path}" if _HOST.fullmatch(host) else f"{scheme}://..."
