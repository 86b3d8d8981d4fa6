"""``python -m app.portfolio``."""

from app.portfolio import main

raise SystemExit(main())
