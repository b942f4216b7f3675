"""Builds the wheel, imports it from an empty folder and runs its command: what is packaged is what users get."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Build, unpack beside nothing else, import and ask for the version and the help."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        site = Path(folder) / "site"
        zipfile.ZipFile(wheel).extractall(site)
        check = (
            "import pathlib, liftscape\n"
            f"assert pathlib.Path(liftscape.__file__).is_relative_to({str(site)!r}), liftscape.__file__\n"
            "for name in liftscape.__all__:\n"
            "    getattr(liftscape, name)\n"
        )
        # -I would drop PYTHONPATH; the folder is first on the path, before the editable install.
        environment = {**os.environ, "PYTHONPATH": str(site)}
        subprocess.run([sys.executable, "-c", check], check=True, cwd=folder, env=environment)
        subprocess.run(
            [sys.executable, "-m", "liftscape", "--help"],
            check=True,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        files = {name.split("/", 1)[1] for name in zipfile.ZipFile(wheel).namelist() if name.startswith("liftscape/")}
        package = ROOT / "src" / "liftscape"
        tracked = subprocess.run(
            ["git", "ls-files", "."], cwd=package, capture_output=True, text=True, check=False
        ).stdout
        left_out = {name for name in tracked.splitlines() if (package / name).exists()} - files
        if left_out:
            sys.exit(f"the wheel leaves out {sorted(left_out)}")
        print(f"1 passed, 0 failed: {wheel.name} imports and answers --help")


if __name__ == "__main__":
    main()
