"""An order whose id was used before: the same order again, or another one."""

from app.model.money import WHOLE, Scale, money_text
from app.model.orders import SIDE_NAMES, Order, OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import Reject
from app.model.words import one_word


def answer_repeated(
    request: OrderRequest, known: Order, scale: Scale = WHOLE
) -> tuple[Order, bool] | Reject:
    """The stored order, to be acknowledged again; or the reject of another order under its id."""
    if (
        known.side == request.side
        and known.symbol == request.symbol
        and known.qty == request.qty
        and known.price == request.price
        and known.type == request.type
        and known.tif == request.tif
        and known.ts == request.ts
    ):
        return known, True
    price = "market" if known.price is None else money_text(known.price)
    return Reject(
        RejectCode.DUPLICATE_ID,
        f"id {known.id} of client {one_word(request.client)} is another order: "
        f"{SIDE_NAMES[known.side]} {scale.qty_text(known.qty)} {known.symbol} @ {price}",
        details_of(request),
    )


def details_of(request: OrderRequest) -> dict[str, object]:
    """What names an order in the answer to it."""
    return {} if request.id is None else {"id": request.id, "client": request.client}
