"""Numbers from MATLAB files, read by scipy in a process of its own.

A damaged file can crash scipy's compiled reader (seen with 1.17: an unknown data type in a tag),
and a crash in a process of its own does not end the run. This file is also that process's script.
"""

import json
import subprocess
import sys
from pathlib import Path

# The files of Flowers-102 have 1 and 15 kB. zlib expands by up to 1,032, so this bounds memory too.
MAX_BYTES = 256 << 10
MAX_SECONDS = 60


def read_numbers(path: Path) -> dict[str, list[float]]:
    """Return {variable: its values in MATLAB's order}; variables of other kinds are left out.

    Raises:
        ValueError: not a readable MATLAB file; the message is the reason.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 10} kB")
    command = [sys.executable, "-P", __file__, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"scipy did not finish within {MAX_SECONDS} s") from None
    if done.returncode:
        error = (done.stderr.strip().splitlines() or [""])[-1]  # "ValueError: reason"
        raise ValueError(error.partition(": ")[2] or f"scipy exited with {done.returncode}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _main() -> None:
    import numpy as np
    from scipy.io import loadmat

    found = loadmat(sys.argv[1])
    numeric = {
        name: values.ravel(order="F").tolist()
        for name, values in found.items()
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf"
    }
    print(json.dumps(numeric))


if __name__ == "__main__":
    _main()
