"""A strategy and an order manager whose quantities have different decimals."""

from pathlib import Path

import pytest

from app.model.money import Scale
from app.runtime.lifecycle import FatalError
from app.runtime.net.order_client import EncodedOrder, OrderClient
from app.strategy.recovery import agree_on_decimals
from tests.support.orders.frames import frame
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium


@pytest.mark.parametrize(("here", "there"), [(8, 0), (2, 8), (8, 2), (0, 0), (8, 8)])
def test_a_strategy_asks_before_its_first_order(tmp_path: Path, here: int, there: int) -> None:
    with OrderManagerProcess(tmp_path, qty_decimals=there) as manager:
        client = OrderClient("127.0.0.1", manager.port, 5.0)
        try:
            if here == there:
                agree_on_decimals(client, Scale(here))
                return
            with pytest.raises(FatalError) as ended:
                agree_on_decimals(client, Scale(here))
        finally:
            client.close()
    text = f"QTY_DECIMALS: {here} in the strategy, {there} in the order manager; start both again"
    assert str(ended.value).startswith(text)
    assert ended.value.final


def test_a_fraction_ends_a_strategy_of_whole_quantities(tmp_path: Path) -> None:
    """It asks nothing before: an order manager may know only orders."""
    with OrderManagerProcess(tmp_path, qty_decimals=8, paper_fill_percent=30) as manager:
        client = OrderClient("127.0.0.1", manager.port, 5.0)
        agree_on_decimals(client, Scale(0))
        orders = [EncodedOrder(n, frame(id=n)) for n in range(1, 6)]
        try:
            with pytest.raises(FatalError, match="QTY_DECIMALS=0 in the strategy") as ended:
                client.submit(orders)
        finally:
            client.close()
    assert ended.value.final
