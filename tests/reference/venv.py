"""The venv of the test functions: made once, remade when its requirements or its interpreter change.

usage: PYTHON venv.py FOLDER        prints the path of the venv's python
PYTHON must be the interpreter that the binary's libpython belongs to. Several callers at once are fine.
"""
import fcntl
import pathlib
import shutil
import subprocess
import sys

folder = pathlib.Path(sys.argv[1]).absolute()
requirements = pathlib.Path(__file__).absolute().parent.parent / "functions" / "requirements.txt"
python, stamp = folder / "bin" / "python", folder / "made-from"
wanted = f"{sys.version}\n{sys.executable}\n{requirements.read_text()}"

folder.parent.mkdir(parents=True, exist_ok=True)
with open(folder.with_suffix(".lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        for command in [sys.executable, "-m", "venv", folder], install:
            subprocess.run(command, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL)
        stamp.write_text(wanted)
print(python)
