"""All situations, in the order of the page."""

from tests.end_to_end.situations.faults import FAULTS
from tests.end_to_end.situations.inputs import DATA, SETTINGS
from tests.end_to_end.situations.trading import EXPECTATIONS, STRATEGIES

SITUATIONS = [*EXPECTATIONS, *SETTINGS, *DATA, *STRATEGIES, *FAULTS]
