"""A CycloneDX SBOM of an image: ``sbom.py IMAGE OUTPUT`` (``make sbom``: those of all images).

debsbom lists the Debian packages, cyclonedx-py the Python packages, and debsbom merges both lists.
This adds what neither sees: the image itself, the hashes of the installed wheels (images/pip.sh
writes them down), and a Python that is no Debian package, as in the official images.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SITE = "/srv/site"
DEBIAN_NAMES = {"arm": "armhf", "386": "i386", "ppc64le": "ppc64el"}
OWN_PYTHON = "usr/local/bin/python3"


def run(*command: str | Path, stdin: object = None) -> str:
    """The output of a command.

    Raises:
        SystemExit: it failed; the text is the end of what it printed.
    """
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"sbom: {Path(command[0]).name} failed: {done.stderr.strip()[-500:]}")
    return str(done.stdout)


def unpack(image: str, folder: Path) -> tuple[Path, Path]:
    """The image's root file system as an archive, and its Python packages as a folder."""
    container = run("docker", "create", image).strip()
    try:
        run("docker", "export", "--output", folder / "root.tar", container)
        run("docker", "cp", f"{container}:{SITE}", folder / "site")
    finally:
        run("docker", "rm", container)
    return folder / "root.tar", folder / "site"


def debian_packages(image: str, root: Path, folder: Path) -> Path:
    """The Debian packages, with the licences that their copyright files declare."""
    machine = run("docker", "image", "inspect", "--format", "{{.Architecture}}", image).strip()
    common = ("--sbom-type", "cdx", "--cdx-schema-version", "1.6", "--with-licenses")
    names = ("--distro-arch", DEBIAN_NAMES.get(machine, machine), "--out", folder / "debian")
    with root.open("rb") as archive:
        run(BIN / "debsbom", "generate", *common, *names, "--root", "-", stdin=archive)
    return folder / "debian.cdx.json"


def python_packages(site: Path, folder: Path) -> Path:
    """The Python packages below the folder, with versions and licences."""
    # cyclonedx-py asks an interpreter for its path; that of the image cannot run here.
    interpreter = folder / "python"
    interpreter.write_text(f"#!/bin/sh\necho '{json.dumps([str(site)])}'\n")
    interpreter.chmod(0o755)
    output = folder / "python.cdx.json"
    common = ("--sv", "1.6", "--pyproject", ROOT / "pyproject.toml", "-o", output)
    run(BIN / "cyclonedx-py", "environment", *common, interpreter)
    return output


def wheel_hashes(lists: Iterable[Path]) -> dict[tuple[str, str], str]:
    """Name and version of each installed wheel -> its SHA-256."""
    found = {}
    for path in lists:
        for line in path.read_text().splitlines():
            digest, _, wheel = line.partition("  ")
            name, version, _, _ = parse_wheel_filename(unquote(wheel))
            found[name, str(version)] = digest
    return found


def has_own_python(root: Path) -> bool:
    """Whether Python is not Debian's."""
    with tarfile.open(root) as archive:
        return OWN_PYTHON in archive.getnames()


def describe(bom: Bom, image: str, site: Path, own_python: bool) -> None:
    """Add the image, the hashes, and Python itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image_id = run("docker", "image", "inspect", "--format", "{{.Id}}", image).strip()
    merged = bom.metadata.component
    assert merged
    bom.metadata.component = Component(
        name=image,
        version=project["version"],
        type=ComponentType.CONTAINER,
        bom_ref=merged.bom_ref.value,
        properties=[Property(name="docker:image:id", value=image_id)],
    )
    hashes = wheel_hashes(site.glob("*.sha256"))
    for component in bom.components:
        if component.purl and component.purl.type == "pypi":
            key = canonicalize_name(component.name), str(component.version)
            if key not in hashes:
                raise SystemExit(f"sbom: {image}: no hash of {key[0]} {key[1]} in {SITE}/*.sha256")
            component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=hashes[key]))
    if own_python:
        code = "import platform; print(platform.python_version())"
        command = ("python3", "-c", code)
        version = run("docker", "run", "--rm", "--network=none", image, *command).strip()
        python = Component(
            name="python",
            version=version,
            type=ComponentType.APPLICATION,
            purl=PackageURL("generic", None, "python", version),
        )
        bom.components.add(python)
        bom.register_dependency(bom.metadata.component, [python])


def sbom_of(image: str) -> str:
    """The SBOM as JSON, valid after the schema of CycloneDX 1.6.

    Raises:
        SystemExit: a tool failed, or the result is not valid.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, site = unpack(image, folder)
        parts = [debian_packages(image, root, folder), python_packages(site, folder)]
        common = ("--sbom-type", "cdx", "--cdx-schema-version", "1.6", "--omit-roots")
        names = ("--distro-name", image, "--out", folder / "merged")
        run(BIN / "debsbom", "merge", *common, *names, *parts)
        bom = Bom.from_json(json.loads((folder / "merged.cdx.json").read_text()))
        describe(bom, image, site, has_own_python(root))
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"sbom: {image}: not valid: {problem.data.message}")
    return text


if __name__ == "__main__":
    text = sbom_of(sys.argv[1])
    Path(sys.argv[2]).write_text(text)
    print(f"sbom: {sys.argv[2]}: {len(json.loads(text)['components'])} components")
