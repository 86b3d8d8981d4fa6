"""``python -m app.order_manager``."""

from app.order_manager.process import main

raise SystemExit(main())
