"""``python -m app.strategy``."""

from app.strategy.process import main

raise SystemExit(main())
