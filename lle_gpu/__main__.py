"""``python -m lle_gpu`` is the command ``lle-gpu``."""

from lle_gpu.cli import main

raise SystemExit(main())
