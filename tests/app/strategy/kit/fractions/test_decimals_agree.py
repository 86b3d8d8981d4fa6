"""A strategy and an order manager whose quantities have different decimals."""

from pathlib import Path

import pytest

from app.model.money import Scale
from app.runtime.lifecycle import FatalError
from app.runtime.net.order_client import OrderClient
from app.strategy.recovery import agree_on_decimals
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium


@pytest.mark.parametrize(("here", "there"), [(0, 8), (8, 0), (2, 8), (8, 2), (0, 0), (8, 8)])
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
