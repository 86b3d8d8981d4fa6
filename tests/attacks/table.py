"""All attacks, in the order of the page."""

from typing import Final

from tests.attacks.families.access import RIGHTS, TLS, TOKENS
from tests.attacks.families.control import CONTROL
from tests.attacks.families.feed import LINK, PORTS
from tests.attacks.families.files import FILES
from tests.attacks.families.floods import FLOODS
from tests.attacks.families.frames import FRAMES
from tests.attacks.families.hostile_gateway import HOSTILE
from tests.attacks.families.memory import FOREIGN, MEMORY
from tests.attacks.families.store import LOST, START
from tests.attacks.families.values import NAMES, VALUES
from tests.attacks.model import Attack, Family

FAMILIES: Final[tuple[Family, ...]] = (
    FRAMES,
    VALUES,
    NAMES,
    FLOODS,
    RIGHTS,
    TOKENS,
    TLS,
    PORTS,
    CONTROL,
    LINK,
    HOSTILE,
    MEMORY,
    FOREIGN,
    LOST,
    START,
    FILES,
)
ATTACKS: Final[tuple[Attack, ...]] = tuple(each for f in FAMILIES for each in f.attacks)
