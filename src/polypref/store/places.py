"""Places by URL (``s3://…``, ``gs://…``, ``hf://…``, ``memory://…``): inputs are fetched whole, outputs put whole.

What is fetched is kept in a cache under the URL and what the store tells of the object (its ETag, generation, size or
time of change), so that another object is another file, and everything that reads files stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from polypref.errors import InputError, PolyprefError
from polypref.store.atomic import digest, replacing
from polypref.store.urls import LOCAL, is_url, restored

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_MARKS = ("ETag", "etag", "generation", "blob_id", "md5Hash", "created", "mtime", "LastModified", "last_modified")
_AT_ONCE = 8
"""Files that are fetched at a time."""


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Whatever a store's client raises, as one sentence that begins with ``what`` (``cannot read s3://…``)."""
    try:
        yield
    except (PolyprefError, TypeError, AttributeError, AssertionError):
        raise
    except Exception as error:  # each client has a tree of its own: botocore, aiohttp, requests, the hub
        raise InputError(f"{what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such object or bucket; check the name"
    if isinstance(error, PermissionError):
        return "access is refused; check your credentials and the bucket's rights"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0][:200]} ({type(error).__name__}); mend that and run the same command again"


def opened(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; nothing is listed from memory.

    Raises:
        InputError: the URL's kind is not known, or its package is not installed.
    """
    import fsspec

    url = restored(url)
    scheme = url.partition("://")[0]
    options = {"auto_mkdir": True} if scheme in LOCAL else {"use_listings_cache": False}
    try:
        fs, path = fsspec.url_to_fs(url, **options)
    except ImportError:
        package = _PACKAGES.get(scheme, f"the fsspec package of {scheme}://")
        raise InputError(
            f"{url} needs {package}, which is not installed; install it with: pip install {package}"
        ) from None
    except ValueError as error:
        raise InputError(f"{url} is no place that fsspec knows ({str(error).splitlines()[0]})") from None
    except Exception as error:
        raise InputError(f"cannot open {url}: {_why(error)}") from error
    return fs, str(path).rstrip("/")


def speaks(fs: Any, scheme: str) -> bool:
    """Whether a file system is that of a scheme."""
    return scheme in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def mark(info: Mapping[str, Any]) -> str:
    """What a store tells of an object that another content would change, as text."""
    found = next((info[name] for name in _MARKS if info.get(name) is not None), "")
    # The same store tells a time as a number in one answer and as a date in another.
    return f"{info.get('size')}/{found.timestamp() if isinstance(found, datetime) else found}"


def cache() -> Path:
    """Where fetched inputs and runs' working folders are: $POLYPREF_CACHE, else polypref in the user's cache folder."""
    if chosen := os.environ.get("POLYPREF_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polypref"


def named(url: str) -> str:
    """A short name of a URL for a folder."""
    return hashlib.sha256(restored(url).rstrip("/").encode()).hexdigest()[:24]


def local(place: str | Path) -> str:
    """The path of an input: a place here as it is, one by URL fetched to the cache. ``-`` stays.

    A URL may name a file, a folder, or files by a pattern with ``{lang}`` in their names.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    place = str(place)
    if place == "-" or not is_url(place):
        return place
    url = restored(place)
    fs, path = opened(url)
    head, braces, _ = path.partition("{lang}")
    folder = head.rpartition("/")[0] if braces else path
    with store_errors(f"cannot read {url}"):
        found = _listed(fs, folder)
    if not found:
        raise InputError(f"cannot read {url}: there is no such object or bucket; check the name")
    single = list(found) == [""]
    told = digest({name: mark(info) for name, info in found.items()})[:24]
    target = cache() / "inputs" / named(url) / told
    names = {name: target / (name or path.rpartition("/")[2]) for name in found}

    def fetch(name: str) -> None:
        size = found[name].get("size")
        if not names[name].exists() or size not in (None, names[name].stat().st_size):
            fetch_file(fs, f"{folder}/{name}".rstrip("/"), names[name], url)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, names))
    if single:
        return str(names[""])
    return str(target / path[len(folder) + 1 :]) if braces else str(target)


def _listed(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """The objects under a path by their names in it; an object itself has the name ``""``."""
    if fs.isfile(path):
        return {"": fs.info(path)}
    return listed(fs, path)


def listed(fs: Any, folder: str) -> dict[str, dict[str, Any]]:
    """The objects under a folder by their names in it.

    Raises:
        InputError: a name leads out of the folder.
    """
    try:
        found = fs.find(folder, detail=True)
    except FileNotFoundError:
        return {}
    root = folder.strip("/")
    names = {str(path).strip("/").removeprefix(f"{root}/"): info for path, info in found.items()}
    for name in names:
        if ".." in name.split("/") or "\0" in name:
            raise InputError(f"{folder} holds an object called {name!r}, which leads out of it; remove the object")
    return {name: info for name, info in names.items() if name and info.get("type") != "directory"}


def fetch_file(fs: Any, remote: str, target: Path, url: str) -> None:
    """Fetch one object; it takes its name when it is whole."""
    with replacing(target) as temporary, store_errors(f"cannot read {url}"):
        fs.get_file(remote, str(temporary))


def put_file(fs: Any, source: Path, remote: str, url: str) -> dict[str, Any]:
    """Put one file; gives what the store then tells of it.

    Raises:
        InputError: the store refuses, or has another size of it afterwards.
    """
    size = source.stat().st_size
    with store_errors(f"cannot write {url}"):
        fs.put_file(str(source), remote)
        info = dict(fs.info(remote))
    if info.get("size") not in (None, size):
        raise InputError(
            f"cannot write {url}: the store has {info['size']} of {size} bytes; run the same command again"
        )
    return info


@contextlib.contextmanager
def written(place: str) -> Iterator[str]:
    """A path to write an output to; where the place is a URL, what was written is put there when the block ends well.

    Raises:
        InputError: the store refuses it; what was there stays.
    """
    if place == "-" or not is_url(place):
        yield place
        return
    url = restored(place)
    fs, path = opened(url)
    with tempfile.TemporaryDirectory(prefix="polypref-") as folder:
        whole = Path(folder) / path.rpartition("/")[2]
        yield str(whole)
        files = [whole] if whole.is_file() else sorted(file for file in whole.rglob("*") if file.is_file())
        # A checkpoint's note says what is there: it comes last.
        for file in sorted(files, key=lambda file: file.name == "polypref.json"):
            inner = file.relative_to(whole).as_posix() if file != whole else ""
            put_file(fs, file, f"{path}/{inner}".rstrip("/"), f"{url}/{inner}".rstrip("/"))
