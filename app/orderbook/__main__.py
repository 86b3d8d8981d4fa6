"""``python -m app.orderbook``."""

from app.orderbook.process import main

raise SystemExit(main())
