"""Compile in place each module of app whose fields are declared in images/types.

The module is the Python that stands there; beside it comes an extension module, which Python
imports instead.  Without one it runs as it is.  Usage: compile.py [JOBS]
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

TYPES = Path("images/types")
OUTPUT = "build/compiled"
DIRECTIVES = {"language_level": 3, "annotation_typing": False}


def main() -> None:
    """Compile what has changed."""
    jobs = sys.argv[1] if len(sys.argv) > 1 else str(os.cpu_count() or 1)
    wanted = {path.relative_to(TYPES).with_suffix("") for path in TYPES.rglob("*.pxd")}
    for old in Path("app").rglob("*.so"):
        if old.parent.name != "kernel" and old.parent / old.name.split(".")[0] not in wanted:
            old.unlink()  # it would run instead of the Python that is there
    files = sorted(wanted)
    # The modules contain each other's fields: a change of one type changes them all.
    newest = max(path.stat().st_mtime for path in (Path(__file__), *TYPES.rglob("*.pxd")))
    made_before = [Path(OUTPUT, file).with_suffix(".c") for file in files]
    force = any(not c.exists() or c.stat().st_mtime < newest for c in made_before)
    modules = [
        Extension(
            ".".join(file.parts),
            [f"{file}.py"],
            depends=[__file__, *map(str, TYPES.rglob("*.pxd"))],
            extra_compile_args=["-O2", "-g0", "-fno-strict-aliasing"],
        )
        for file in files
    ]
    made = cythonize(
        modules,
        include_path=[str(TYPES)],
        compiler_directives=DIRECTIVES,
        build_dir=OUTPUT,
        nthreads=int(jobs) if int(jobs) > 1 else 0,
        force=force,
    )
    setup(
        name="compiled",
        ext_modules=made,
        script_args=["-q", "build_ext", "--inplace", "-j", jobs, "-t", OUTPUT],
    )


if __name__ == "__main__":
    main()
