"""Fetched files that are kept in ``data_dir/fetched`` for some time, so that a second attempt fetches only the rest.

``{dataset}/{source}/{unit}/`` contains the files of one unit (a period, or files that periods share). ``{unit}.json`` next to it is
written last and marks them as complete. A kernel lock on ``{dataset}.lock`` marks them as in use.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubeport.catalog.disk.durable import make_folders, replace_file, store_errors
from cubeport.catalog.disk.locks import FileLock
from cubeport.cubes.sources import Fetched
from cubeport.errors import DatasetBusy, Locked


@dataclass(frozen=True, slots=True)
class Unit:
    """The folder of one unit."""

    folder: Path

    @property
    def mark(self) -> Path:
        """The file that marks the unit as complete."""
        return self.folder.with_name(f"{self.folder.name}.json")

    def held(self) -> tuple[Fetched, str] | None:
        """Return the complete files and the job that fetched them, or ``None``."""
        try:
            said: Mapping[str, Any] = json.loads(self.mark.read_bytes())
            files = tuple(self.folder / name for name in said["files"])
            if [_size(each) for each in files] != said["sizes"]:
                return None
            return Fetched(files, said["validator"]), str(said["job"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def begin(self, *, resumes: bool, apart: bool = False) -> Path:
        """Return the folder to fetch into. It is emptied unless the fetch can resume.

        Parameters
        ----------
        apart
            Return a folder below that one, with a name that no other call gets, so that one that is left behind cannot write there.
        """
        self.mark.unlink(missing_ok=True)
        if not resumes and self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=apart)
        make_folders(self.folder)
        if not apart:
            return self.folder
        before = next(self.folder.glob("try-*"), None) if resumes else None
        return before or Path(tempfile.mkdtemp(prefix="try-", dir=self.folder))

    def leave(self) -> None:
        """Remove the folder from under a call that was left behind."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def done(self, fetched: Fetched, job: str) -> None:
        """Mark the unit as complete."""
        said = {
            "files": [each.relative_to(self.folder).as_posix() for each in fetched.files],
            "sizes": [_size(each) for each in fetched.files],
            "validator": fetched.validator,
            "job": job,
        }
        replace_file(self.mark, json.dumps(said).encode())


class KeptFolder:
    """The fetched files that an instance keeps.

    Parameters
    ----------
    hours, max_bytes
        ``ingest.keep_fetched_h`` and ``ingest.keep_fetched_bytes``. Older files are removed, then the oldest until the size fits.
    """

    def __init__(self, root: Path, *, hours: float, max_bytes: int) -> None:
        self._root = root
        self._hours = hours
        self._max_bytes = max_bytes

    @contextmanager
    def using(self, dataset_id: str) -> Iterator[Path]:
        """Lock the files of a dataset during the block, so that nobody removes them. Then remove files that need not be kept."""
        with store_errors("keep what is fetched"):
            make_folders(self._root)
        try:
            with FileLock(self._root / f"{dataset_id}.lock", None, 30.0):
                yield self._root / dataset_id
        except Locked as exc:
            raise DatasetBusy(
                f"Another process uses the downloads for {dataset_id}.", next_step="try again when it has finished"
            ) from exc
        finally:
            self.prune()

    @staticmethod
    def unit(folder: Path, source: str, name: str) -> Unit:
        """Return the unit *name* of *source* in the folder of a dataset."""
        return Unit(folder / _short(source) / _short(name))

    def prune(self) -> None:
        """Remove files that are too old, and then the oldest until the size fits. Files in use stay."""
        now = time.time()
        left: list[tuple[float, int, Path]] = []
        for folder in sorted(each for each in self._root.glob("*") if each.is_dir()):
            for unit in sorted(each for each in folder.glob("*/*") if each.is_dir()):
                with suppress(FileNotFoundError):  # another process is removing it
                    left.append((_newest(unit), _bytes(unit), unit))
        left.sort(reverse=True)
        total = 0
        for modified, size, unit in left:
            total += size
            if now - modified > self._hours * 3600 or total > self._max_bytes or self._hours == 0:
                self._remove(unit)

    def _remove(self, unit: Path) -> None:
        lock = FileLock(self._root / f"{unit.parent.parent.name}.lock", None, 0.0)
        if not lock.try_lock():
            return
        try:
            unit.with_name(f"{unit.name}.json").unlink(missing_ok=True)
            shutil.rmtree(unit, ignore_errors=True)
            for above in (unit.parent, unit.parent.parent):
                if not any(above.iterdir()):
                    above.rmdir()
        except FileNotFoundError:
            pass  # another process removed it at the same time
        finally:
            lock.release()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _size(path: Path) -> int:
    """Return the size of a file, or of all files of a folder, in bytes."""
    return _bytes(path) if path.is_dir() else path.stat().st_size


def _bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _newest(folder: Path) -> float:
    return max((each.stat().st_mtime for each in (folder, *folder.rglob("*"))), default=0.0)
