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
    files = sorted(path.relative_to(TYPES).with_suffix("") for path in TYPES.rglob("*.pxd"))
    modules = [
        Extension(
            ".".join(file.parts),
            [f"{file}.py"],
            depends=[str(path) for path in TYPES.rglob("*.pxd")],
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
    )
    setup(
        name="compiled",
        ext_modules=made,
        script_args=["-q", "build_ext", "--inplace", "-j", jobs, "-t", OUTPUT],
    )


if __name__ == "__main__":
    main()
