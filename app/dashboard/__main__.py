"""``python -m app.dashboard``."""

from app.dashboard.process import main

raise SystemExit(main())
