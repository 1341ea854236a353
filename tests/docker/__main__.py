"""Install altmill as docker/Dockerfile does, and run it: `python -m tests.docker TARGET`."""

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tests.docker.dockerfile import ROOT, Builder

PACKAGES = ("filters", "recaption", "train", "pipelines")
DRY = (
    *("--dry_run=True", "--project=some-project", "--region=europe-west4"),
    *("--temp_location=gs://some-bucket/temp", "--staging_location=gs://some-bucket/staging"),
    "--sdk_container_image=europe-docker.pkg.dev/some-project/some-repository/altmill:0.1.0",
)


def main(target: str) -> None:
    """Carry out a target's steps in a temporary folder, and filter a sample by what they left."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        builder = Builder(Path(name))
        root = builder.build(target)
        check_wheel(next((root / "altmill" / "dist").glob("*.whl")))
        run(builder, root, "-c", "import pipelines; assert 'site-packages' in pipelines.__file__")
        run(builder, root, "-m", "pipelines", "sample", "--output", "sample", "--rows", "60")
        filtered = ("--input", "sample", "--output", "out", "--workers", "1")
        run(builder, root, "-m", "pipelines", "filter", *filtered)
        run(builder, root, "-m", "recaption", "--help")
        run(builder, root, "-m", "train", "--help")
        if target == "dataflow":
            paths = ("--input=sample", "--output=elsewhere")
            run(builder, root, str(root / "template" / "launch.py"), *paths, *DRY)
        assert (root / "work" / "out" / "report" / "index.html").is_file()
    seconds = time.monotonic() - start
    told = "".join(f"\n  {step}" for step in builder.left_out)
    sys.stdout.write(
        f"{target}: installed and run in {seconds:.0f} s; left out, for want of Docker:"
    )
    sys.stdout.write(f"{told}\n")


def run(builder: Builder, root: Path, *options: str) -> None:
    """Run Python in an empty folder of its own, with nothing of this project beside it."""
    folder = root / "work"
    folder.mkdir(exist_ok=True)
    command = [str(root / "venv" / "bin" / "python"), "-I", *options]
    environment = builder.environment(root)
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def check_wheel(path: Path) -> None:
    """Check that a wheel has every file of our packages, templates and recipes too, but prose."""
    with zipfile.ZipFile(path) as wheel:
        held = {*wheel.namelist()}
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*"))
    read = [file for file in files if file.is_file() and file.suffix not in (".md", ".pyc")]
    assert {file.relative_to(ROOT).as_posix() for file in read} - held == set()


if __name__ == "__main__":
    for target in sys.argv[1:] or ["worker"]:
        main(target)
