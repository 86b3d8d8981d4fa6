"""``python -m app.gateway``."""

from app.gateway.process import main

raise SystemExit(main())
